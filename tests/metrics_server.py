"""A metrics endpoint that says what a test wants, over real HTTP."""

import contextlib
import http.server
import threading
from collections.abc import Callable, Iterator

A, B = "GPU-aaaa", "GPU-bbbb"


def metrics_text(
    *gpus: tuple[str, float, float, float, float], cpu: float = 0.5, more: str = ""
) -> str:
    """What Triton serves: of each GPU (UUID, MB in use, MB in all, utilisation 0 to 1, watts)."""
    families = (
        ("nv_gpu_utilization", "gauge", 3, 1),
        ("nv_gpu_memory_total_bytes", "gauge", 2, 10**6),
        ("nv_gpu_memory_used_bytes", "gauge", 1, 10**6),
        ("nv_gpu_power_usage", "gauge", 4, 1),
    )
    lines = [
        "# HELP nv_inference_count Number of inferences performed (does not include cached ones)",
        "# TYPE nv_inference_count counter",
        'nv_inference_count{model="add_sub",version="1"} 7',
    ]
    for name, kind, column, factor in families:
        lines += [f"# HELP {name} in words", f"# TYPE {name} {kind}"]
        lines += [f'{name}{{gpu_uuid="{gpu[0]}"}} {gpu[column] * factor}' for gpu in gpus]
    lines += [
        "# TYPE nv_cpu_utilization gauge",
        f"nv_cpu_utilization {cpu}",
        "# TYPE nv_cpu_memory_used_bytes gauge",
        "nv_cpu_memory_used_bytes 932040704",
        *more.splitlines(),
    ]
    return "\n".join(lines) + "\n"


@contextlib.contextmanager
def serving(
    answer: Callable[[], str | bytes], *, status: int = 200, at: str = "127.0.0.1:0"
) -> Iterator[str]:
    """``host:port`` of a server that sends ``answer()`` to every GET, until the block ends."""
    host, _, port = at.partition(":")

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            text = answer()
            body = text.encode() if isinstance(text, str) else text
            self.send_response(status if self.path == "/metrics" else 404)
            self.send_header("Content-Type", "text/plain; charset=utf-8")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            with contextlib.suppress(OSError):
                self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer((host, int(port)), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield f"127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
