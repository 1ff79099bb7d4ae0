"""Sleeps for a service time that ``parameters.service`` names, and does nothing else."""

import json
import time

import numpy as np
import triton_python_backend_utils as pb_utils
from services import SERVICES


class TritonPythonModel:
    """Answers with zeros, after a sleep that a batch shares."""

    def initialize(self, args: dict[str, str]) -> None:
        """Choose the service."""
        config = json.loads(args["model_config"])
        self._service = SERVICES[config["parameters"]["service"]["string_value"]]()

    def execute(self, requests: list) -> list:
        """Sleep for all requests together, then answer each."""
        inputs = [pb_utils.get_input_tensor_by_name(r, "X").as_numpy() for r in requests]
        time.sleep(self._service(sum(len(x) for x in inputs)))
        return [
            pb_utils.InferenceResponse([pb_utils.Tensor("Y", np.zeros_like(x))]) for x in inputs
        ]
