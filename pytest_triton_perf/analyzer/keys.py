"""Model Analyzer's names, and what they are here."""

from collections.abc import Mapping


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.split())


FILE_KEYS = (
    "profile_models",
    "model_repository",
    "client_protocol",
    "batch_sizes",
    "concurrency",
    "request_rate",
    "parameters",
    "constraints",
    "latency_budget",
    "min_throughput",
    "objectives",
    "perf_analyzer_flags",
    "triton_server_flags",
    "model_type",
    "request_rate_search_enable",
    "run_config_search_disable",
    "run_config_profile_models_concurrently_enable",
)

MODEL_KEYS = (
    "cpu_only",
    "parameters",
    "model_config_parameters",
    "constraints",
    "objectives",
    "perf_analyzer_flags",
    "triton_server_flags",
)

SEARCH_MODE = "run_config_search_mode"
BOUNDS = {
    f"run_config_search_{end}_{name}": f"{end}_{name}"
    for name in ("concurrency", "request_rate", "model_batch_size", "instance_count")
    for end in ("min", "max")
}
"""Key of a file -> bound of a search."""
NO_SEARCH = "nothing is searched for the best configuration"

_OPTION = {
    "checkpoint_directory": "results.json has every measurement",
    "export_path": "use --triton-perf-output",
    "triton_launch_mode": "use --triton-launch",
    "triton_docker_image": "use --triton-image",
    "triton_docker_mounts": "use --triton-mount",
    "triton_docker_shm_size": "use --triton-shm-size",
    "triton_http_endpoint": "use --triton-url",
    "triton_grpc_endpoint": "use --triton-url",
    "triton_metrics_url": "use --triton-metrics-url",
    "triton_server_path": "use --triton-server",
    "triton_output_path": "a failed test shows the server's log",
    "perf_analyzer_path": "use --perf-analyzer",
    "perf_output": "a failed test shows perf_analyzer's words",
    "perf_output_path": "a failed test shows perf_analyzer's words",
    "gpus": "use --triton-gpus",
    "skip_summary_reports": "use --triton-perf-report",
    "skip_detailed_reports": "use --triton-perf-report",
    "output_formats": "use --triton-perf-report",
    "collect_cpu_metrics": "CPU and memory are always measured",
}

_ENVIRONMENT = "use --triton-env in a container, else the environment of pytest"
_OF_A_MODEL = {
    "triton_server_environment": _ENVIRONMENT,
    "triton_docker_args": "the plugin's containers have fixed ones",
    "genai_perf_flags": "GenAI-Perf is not used",
    "weighting": "each model is measured for itself",
}

_NO_MEANING = _words("""
config_file output_model_repository_path override_output_model_repository client_max_retries
duration_seconds monitoring_interval perf_analyzer_timeout perf_analyzer_cpu_util
perf_analyzer_max_auto_adjusts reload_model_disable triton_install_path triton_docker_labels
dcgm_disable always_report_gpu_metrics run_config_search_max_binary_search_steps
early_exit_enable min_percentage_of_search_space max_percentage_of_search_space
optuna_min_trials optuna_max_trials optuna_early_exit_threshold use_concurrency_formula
concurrency_sweep_disable num_configs_per_model num_top_model_configs filename_model_inference
filename_model_gpu filename_server_only inference_output_fields gpu_output_fields
server_output_fields report_model_configs plots
""")

_COMPOSING = "composing models are served as their repository has them"
NOT_USED: Mapping[str, str] = {
    **_OPTION,
    **_OF_A_MODEL,
    **dict.fromkeys(_NO_MEANING, ""),
    "bls_composing_models": _COMPOSING,
    "ensemble_composing_models": _COMPOSING,
    "cpu_only_composing_models": _COMPOSING,
}
"""Keys that Model Analyzer knows and this plugin does not use, with what to use instead."""

NOT_USED_OF_A_MODEL = _OF_A_MODEL

_LATENCIES = {f"perf_latency_p{p}": f"p{p}_latency_ms" for p in range(1, 100)}

CONSTRAINTS: Mapping[str, tuple[str, str]] = {
    "perf_throughput": ("min", "min_throughput"),
    "perf_latency_avg": ("max", "avg_latency_ms"),
    "perf_latency": ("max", "p99_latency_ms"),  # Its old name; Model Analyzer takes it too.
    **{tag: ("max", budget) for tag, budget in _LATENCIES.items()},
    "gpu_used_memory": ("max", "max_gpu_memory_mb"),
    "gpu_utilization": ("max", "max_gpu_utilization_pct"),
    "gpu_power_usage": ("max", "max_power_w"),
    "cpu_used_ram": ("max", "max_cpu_memory_mb"),
}
"""Constraint -> the bound that it has, and our budget."""

OBJECTIVES: Mapping[str, str] = {
    "perf_throughput": "throughput",
    "perf_latency_avg": "avg_latency_ms",
    "perf_latency": "p99_latency_ms",
    **_LATENCIES,
    "perf_server_queue": "queue_ms",
    "perf_server_compute_input": "compute_input_ms",
    "perf_server_compute_infer": "compute_infer_ms",
    "perf_server_compute_output": "compute_output_ms",
    "gpu_used_memory": "gpu_memory_mb",
    "gpu_power_usage": "power_w",
    "cpu_used_ram": "cpu_memory_mb",
}
"""Objective -> our metric."""

_TOKENS = "it is about tokens, and this plugin times whole requests"
NOT_MEASURED: Mapping[str, str] = {
    "gpu_utilization": "more of it is better there and less is better here; take another metric",
    "gpu_free_memory": "take gpu_used_memory",
    "cpu_available_ram": "take cpu_used_ram",
    "perf_client_send_recv": "take perf_latency_avg",
    "perf_client_response_wait": "take perf_latency_avg",
    "output_token_throughput": _TOKENS,
    **{
        f"{metric}_{statistic}": _TOKENS
        for metric in ("inter_token_latency", "time_to_first_token")
        for statistic in ("avg", "min", "max", "p99", "p95", "p90", "p75", "p50", "p25")
    },
}
"""Metrics of Model Analyzer that this plugin does not have, and why."""

_DURATION = "the plugin decides how long it measures"
_OWN = "the plugin gives perf_analyzer its own"
_TLS = "use --triton-tls-ca, --triton-tls-cert and --triton-tls-key"
FLAGS_NOT_USED: Mapping[str, str] = {
    **dict.fromkeys(
        (
            "measurement-interval",
            "measurement-mode",
            "measurement-request-count",
            "stability-percentage",
            "max-trials",
        ),
        _DURATION,
    ),
    **dict.fromkeys(
        (
            *("model-name", "url", "model-repository", "triton-server-directory"),
            *("latency-report-file", "verbose", "extra-verbose", "verbose-csv"),
            *("collect-metrics", "metrics-url", "metrics-interval"),
        ),
        _OWN,
    ),
    **dict.fromkeys(
        (
            "ssl-grpc-use-ssl",
            "ssl-grpc-root-certifications-file",
            "ssl-grpc-private-key-file",
            "ssl-grpc-certificate-chain-file",
            "ssl-https-verify-peer",
            "ssl-https-verify-host",
            "ssl-https-ca-certificates-file",
            "ssl-https-client-certificate-type",
            "ssl-https-client-certificate-file",
            "ssl-https-private-key-type",
            "ssl-https-private-key-file",
        ),
        _TLS,
    ),
    "bls-composing-models": _COMPOSING,
}
"""perf_analyzer's flags that say nothing here, and why."""

FLAGS_REFUSED: Mapping[str, str] = {
    "batch-size": "use batch_sizes",
    "concurrency-range": "use concurrency",
    "request-rate-range": "use request_rate",
    "request-intervals": "use request_rate",
    "binary-search": "use concurrency and constraints",
    "latency-threshold": "use constraints",
    "service-kind": "the plugin measures a Triton over the network",
}
"""Those that would change what is measured."""

FLAGS_PASSED: Mapping[str, str] = {
    "model-version": "-x",
    "http-header": "-H",
    **{
        name: f"--{name}"
        for name in (
            "model-signature-name",
            "async",
            "sync",
            "request-distribution",
            "num-of-sequences",
            "max-threads",
            "output-shared-memory-size",
            "sequence-length",
            "sequence-id-range",
            "string-length",
            "string-data",
            "grpc-compression-algorithm",
        )
    },
}
"""Those that perf_analyzer is given as they are."""

FLAGS_READ = ("percentile", "input-data", "shape", "shared-memory", "streaming", "protocol")

_REPOSITORY = "the plugin says which models are served from where"
_PLAIN = (
    "a Triton that the plugin starts is spoken to without TLS; start it yourself and give "
    "--triton-url=grpcs://host:port"
)
SERVER_REFUSED: Mapping[str, str] = {
    **dict.fromkeys(
        (
            *("model-store", "model-repository", "model-control-mode", "load-model"),
            "repository-poll-secs",
        ),
        _REPOSITORY,
    ),
    **dict.fromkeys(
        (
            *("grpc-use-ssl", "grpc-use-ssl-mutual", "grpc-server-cert", "grpc-server-key"),
            "grpc-root-cert",
        ),
        _PLAIN,
    ),
    **dict.fromkeys(("allow-http", "allow-grpc"), "the plugin needs both"),
    **dict.fromkeys(("http-address", "grpc-address"), "the plugin chooses it"),
    "log-file": "the plugin reads the log to tell what went wrong",
}
"""tritonserver's flags that would take the server out of the plugin's hands."""

SERVER_FLAGS = _words("""
id exit-timeout-secs log-verbose log-info log-warning log-error log-format exit-on-error
disable-auto-complete-config strict-readiness model-load-thread-count model-load-retry-count
model-namespacing http-port reuse-http-port http-header-forward-pattern
http-thread-count http-restricted-api grpc-port reuse-grpc-port
grpc-header-forward-pattern grpc-infer-allocation-pool-size grpc-infer-response-compression-level
grpc-keepalive-time grpc-keepalive-timeout grpc-keepalive-permit-without-calls
grpc-http2-max-pings-without-data grpc-http2-min-recv-ping-interval-without-data
grpc-http2-max-ping-strikes grpc-max-connection-age grpc-max-connection-age-grace
grpc-restricted-protocol allow-sagemaker sagemaker-port sagemaker-safe-port-range
sagemaker-thread-count allow-vertex-ai vertex-ai-port vertex-ai-thread-count
vertex-ai-default-model allow-metrics allow-gpu-metrics allow-cpu-metrics metrics-address
metrics-port metrics-interval-ms metrics-config trace-config backend-directory backend-config
repoagent-directory cache-config cache-directory rate-limit rate-limit-resource
pinned-memory-pool-byte-size cuda-memory-pool-byte-size cuda-virtual-address-size
min-supported-compute-capability buffer-management-thread-count host-policy model-load-gpu-limit
strict-model-config response-cache-byte-size trace-file trace-level trace-rate trace-count
trace-log-frequency
""")
"""The flags of tritonserver that Model Analyzer knows, but for those refused."""
