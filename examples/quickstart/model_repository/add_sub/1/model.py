"""OUTPUT0 = INPUT0 + INPUT1 and OUTPUT1 = INPUT0 - INPUT1, on a GPU where there is one."""

import numpy as np
import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    """Triton makes one object of this class for each instance of the model."""

    def initialize(self, args):
        """Decide once, before the first request, where this instance computes."""
        self.upload, self.download, where = np.asarray, np.asarray, "numpy on the CPU"
        if args["model_instance_kind"] == "GPU":
            device = int(args["model_instance_device_id"])
            for library in (torch_on, cupy_on):
                try:
                    self.upload, self.download, where = library(device)
                    break
                except Exception as error:
                    pb_utils.Logger.log_warn(f"{library.__name__} GPU {device}: {error}")
        pb_utils.Logger.log_info(f"{args['model_instance_name']} computes with {where}")

    def execute(self, requests):
        """One response for each request; Triton hands over several where it batched them."""
        responses = []
        for request in requests:
            a, b = (
                self.upload(pb_utils.get_input_tensor_by_name(request, name).as_numpy())
                for name in ("INPUT0", "INPUT1")
            )
            outputs = [
                pb_utils.Tensor("OUTPUT0", self.download(a + b)),
                pb_utils.Tensor("OUTPUT1", self.download(a - b)),
            ]
            responses.append(pb_utils.InferenceResponse(output_tensors=outputs))
        return responses


def torch_on(device):
    """How torch takes arrays to a GPU and back; raises where it cannot."""
    import torch

    gpu = torch.zeros(1, device=f"cuda:{device}").device
    return lambda x: torch.from_numpy(x).to(gpu), lambda x: x.cpu().numpy(), f"torch on {gpu}"


def cupy_on(device):
    """The same with cupy."""
    import cupy

    cupy.cuda.Device(device).use()
    cupy.zeros(1)
    return cupy.asarray, cupy.asnumpy, f"cupy on GPU {device}"
