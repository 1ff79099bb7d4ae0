"""Sleeps 4 ms a call and 0.1 ms an item: a model whose speed no neighbour changes."""

import time

import numpy as np
import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    """Answers with zeros, after a sleep that a batch shares."""

    def execute(self, requests: list) -> list:
        """Sleep for the whole batch, then answer each request."""
        inputs = [pb_utils.get_input_tensor_by_name(r, "X").as_numpy() for r in requests]
        time.sleep(0.004 + 0.0001 * sum(len(x) for x in inputs))
        return [
            pb_utils.InferenceResponse([pb_utils.Tensor("Y", np.zeros_like(x))]) for x in inputs
        ]
