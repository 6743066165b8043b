#!/usr/bin/env python3
"""Writes the dashboards beside this file: service.json, model.json, tenants.json. `--check` says whether they are
as this writes them."""

import json
import sys
from pathlib import Path

FOLDER = Path(__file__).parent
SOURCE = {"type": "prometheus", "uid": "${source}"}
ERRORS = ('code=~"internal|deadline_exceeded|deadline_infeasible|overloaded|model_unavailable|limits_unavailable'
          '|store_unavailable"')
# The cards' p99 targets, in seconds.
TARGETS = {"text-classifier-v2": 0.05, "sentiment-v3": 0.03, "ner-v2": 0.08, "summarizer-v1": 0.5, "embeddings-v2": 0.02}
MISSED = ',result="missed"'
WIDTH = 24


def panel(title, unit, *queries, width=8, kind="timeseries", limits=(), targets=None, description=""):
    """A panel. A query is an expression and its legend. `limits`: where yellow and red begin; `targets`: a line
    for each series of this name, in the colour of what is over it."""
    colours = [{"color": "green", "value": None}]
    colours += [{"color": c, "value": v} for c, v in zip(("yellow", "red") if len(limits) == 2 else ("red",), limits)]
    defaults = {"unit": unit, "min": 0, "thresholds": {"mode": "absolute", "steps": colours}}
    if limits and kind == "timeseries":
        defaults["custom"] = {"thresholdsStyle": {"mode": "line"}}
    if kind == "stat":
        options = {"reduceOptions": {"calcs": ["lastNotNull"]}, "colorMode": "value", "graphMode": "area"}
    elif kind == "bargauge":
        options = {"reduceOptions": {"calcs": ["lastNotNull"]}, "orientation": "horizontal", "displayMode": "basic"}
    else:
        options = {"legend": {"displayMode": "list", "placement": "bottom"}, "tooltip": {"mode": "multi", "sort": "desc"}}
    overrides = [
        {"matcher": {"id": "byName", "options": name},
         "properties": [{"id": "thresholds", "value": {"mode": "absolute", "steps": [
             {"color": "green", "value": None}, {"color": "red", "value": value}]}}]}
        for name, value in (targets or {}).items()
    ]
    return {
        "title": title, "type": kind, "description": description, "datasource": SOURCE, "options": options,
        "fieldConfig": {"defaults": defaults, "overrides": overrides}, "width": width,
        "targets": [{"refId": chr(65 + i), "expr": expression, "legendFormat": legend, "datasource": SOURCE}
                    for i, (expression, legend) in enumerate(queries)],
    }


def variable(name, label, query):
    return {"name": name, "label": label, "type": "query", "datasource": SOURCE, "query": query, "refresh": 2,
            "includeAll": True, "allValue": ".*", "multi": True, "sort": 1, "current": {"text": "All", "value": "$__all"}}


def dashboard(uid, title, variables, panels):
    x = y = 0
    for number, one in enumerate(panels, 1):
        width = one.pop("width")
        if x + width > WIDTH:
            x, y = 0, y + 8
        one |= {"id": number, "gridPos": {"x": x, "y": y, "w": width, "h": 8}}
        x += width
    source = {"name": "source", "label": "Prometheus", "type": "datasource", "query": "prometheus"}
    return {
        "uid": uid, "title": title, "tags": ["ml-inference"], "schemaVersion": 39, "timezone": "utc", "refresh": "30s",
        "time": {"from": "now-3h", "to": "now"}, "editable": True, "templating": {"list": [source, *variables]},
        "links": [{"type": "dashboards", "tags": ["ml-inference"], "title": "ml-inference", "asDropdown": True}],
        "panels": panels,
    }


def quantile(share, metric, by, where=""):
    return f"histogram_quantile({share}, sum by ({by}le) (rate({metric}_bucket{{{where}}}[$__rate_interval])))"


def rate(metric, by, where=""):
    return f"sum by ({by}) (rate({metric}{{{where}}}[$__rate_interval]))"


NAMESPACE = variable("namespace", "Namespace", "label_values(ml_inference_build_info, namespace)")
IN = 'namespace=~"$namespace"'

service = dashboard("ml-inference-service", "ml-inference: service", [NAMESPACE], [
    panel("Servers ready and wanted", "short", (f"max(ml_inference_scaling_ready_replicas{{{IN}}})", "ready"),
          (f"max(ml_inference_scaling_desired_replicas{{{IN}}})", "wanted"), kind="stat"),
    panel("Errors by our fault", "percentunit",
          (f"(sum(rate(ml_inference_calls_total{{{IN},{ERRORS}}}[$__rate_interval])) or vector(0))"
           f" / sum(rate(ml_inference_calls_total{{{IN}}}[$__rate_interval]))", "errors"),
          kind="stat", limits=(0.01, 0.05), description="Target 0.1 %; alerts at 1 % and 5 %."),
    panel("p99 of all calls", "s", (quantile(0.99, "ml_inference_call_duration_seconds", "", IN), "p99"),
          kind="stat", limits=(0.2, 0.5), description="Target 200 ms; alerts at 500 ms and 1 s."),
    panel("Calls by dialect", "reqps", (rate("ml_inference_calls_total", "protocol", IN), "{{protocol}}")),
    panel("Calls that fail, by code", "reqps",
          (rate("ml_inference_calls_total", "code", f'{IN},code!="ok"'), "{{code}}")),
    panel("Time to an answer", "s",
          *((quantile(share, "ml_inference_call_duration_seconds", "", IN), f"p{share * 100:g}") for share in (0.5, 0.95, 0.99)),
          limits=(0.2, 0.5)),
    panel("Later than the model's target", "percentunit",
          (f"{rate('ml_inference_call_targets_total', 'model', IN + MISSED)} / "
           f"{rate('ml_inference_call_targets_total', 'model', IN)}", "{{model}}"), limits=(0.01,),
          description="Over 1 % the p99 target is missed. Refused for want of capacity is missed too."),
    panel("Sequences that wait", "short", (f"sum by (model) (ml_inference_queue_sequences{{{IN}}})", "{{model}}"),
          limits=(1000, 5000)),
    panel("Demand, in devices", "short",
          (f"max(ml_inference_scaling_offered_60s{{{IN}}})", "asked for, 60 s"),
          (f"max(ml_inference_scaling_offered_expected{{{IN}}})", "expected"),
          description="Device-seconds requested per second, refused ones included, of all servers."),
    panel("Calls in flight", "short", (f"sum by (instance) (ml_inference_calls_in_flight{{{IN}}})", "{{instance}}")),
    panel("Connections", "short", (f"sum by (port) (ml_inference_connections_open{{{IN}}})", "{{port}}")),
    panel("Redis", "short", (f"max by (instance) (ml_inference_store_unreachable{{{IN}}})", "unreachable: {{instance}}"),
          limits=(1,)),
    panel("Records behind", "short",
          (f"max by (follower) (ml_inference_usage_journal_records_behind{{{IN}}})", "{{follower}}"), limits=(100000,)),
    panel("Memory", "bytes", (f'process_resident_memory_bytes{{{IN},job="ml-inference"}}', "{{instance}}")),
    panel("CPU", "short", (f'rate(process_cpu_seconds_total{{{IN},job="ml-inference"}}[$__rate_interval])', "{{instance}}"),
          description="Cores."),
])

ONE = f'{IN},model=~"$model"'
MODEL = variable("model", "Model", "label_values(ml_inference_model_loaded, model)")
model = dashboard("ml-inference-model", "ml-inference: models and devices", [NAMESPACE, MODEL], [
    panel("p99 against the target", "s", (quantile(0.99, "ml_inference_call_duration_seconds", "model, ", ONE), "{{model}}"),
          kind="bargauge", targets=TARGETS, width=12, description="Red over the model's own target."),
    panel("Later than the target", "percentunit",
          (f"{rate('ml_inference_call_targets_total', 'model', ONE + MISSED)} / "
           f"{rate('ml_inference_call_targets_total', 'model', ONE)}", "{{model}}"), limits=(0.01,), width=12),
    panel("Calls", "reqps", (rate("ml_inference_calls_total", "model", ONE), "{{model}}")),
    panel("Tokens", "short", (rate("ml_inference_usage_tokens_total", "model", ONE), "{{model}}"), description="A second."),
    panel("Servers that have it", "short", (f"sum by (model) (ml_inference_model_loaded{{{ONE}}})", "{{model}}")),
    panel("Where time goes, p95", "s",
          (quantile(0.95, "ml_inference_tokenization_duration_seconds", "", ONE), "tokenise"),
          (quantile(0.95, "ml_inference_queue_delay_seconds", "", ONE), "wait"),
          (quantile(0.95, "ml_inference_batch_duration_seconds", "", ONE), "compute"),
          (quantile(0.95, "ml_inference_decoding_duration_seconds", "", ONE), "decode")),
    panel("Oldest that waits", "s", (f"max by (model) (ml_inference_queue_oldest_wait_seconds{{{ONE}}})", "{{model}}")),
    panel("Left the queue without being computed", "short",
          (rate("ml_inference_queue_departures_total", "model, reason", ONE), "{{model}} {{reason}}"),
          description="Sequences a second."),
    panel("Sequences in a batch, median", "short", (quantile(0.5, "ml_inference_batch_sequences", "model, ", ONE), "{{model}}")),
    panel("Tokens in a batch, median", "short", (quantile(0.5, "ml_inference_batch_tokens", "model, ", ONE), "{{model}}")),
    panel("Batches that failed", "short", (rate("ml_inference_batch_failures_total", "model", ONE), "{{model}}")),
    panel("Predicted durations are wrong by", "percentunit",
          (f"max by (model, device) (ml_inference_batch_prediction_error_ratios{{{ONE}}})", "{{model}} {{device}}"),
          limits=(0.5,)),
    panel("Device is busy for", "s", (f"ml_inference_device_busy_seconds{{{IN}}}", "{{instance}} {{device}}")),
    panel("Devices lost", "short", (f"max by (instance, device) (ml_inference_device_lost{{{IN}}})", "{{instance}} {{device}}"),
          limits=(1,)),
    panel("GPU: share of time in kernels", "percentunit", (f"ml_inference_gpu_utilization_ratios{{{IN}}}", "{{instance}} {{device}}")),
    panel("GPU: memory", "percentunit",
          (f"ml_inference_gpu_memory_used_bytes{{{IN}}} / ml_inference_gpu_memory_bytes{{{IN}}}", "{{instance}} {{device}}"),
          limits=(0.9,)),
    panel("GPU: power", "watt", (f"ml_inference_gpu_power_watts{{{IN}}}", "{{instance}} {{device}}")),
    panel("GPU: clocks held down", "short", (f"ml_inference_gpu_throttled{{{IN}}} > 0", "{{instance}} {{device}} {{reason}}")),
])

WHO = f'{IN},tenant=~"$tenant"'
TENANT = variable("tenant", "Tenant", "label_values(ml_inference_tenant_usage_inputs_total, tenant)")
tenants = dashboard("ml-inference-tenants", "ml-inference: tenants", [NAMESPACE, TENANT], [
    panel("Inputs", "short", (rate("ml_inference_tenant_usage_inputs_total", "tenant", WHO), "{{tenant}}"), width=12,
          description="A second."),
    panel("Tokens", "short", (rate("ml_inference_tenant_usage_tokens_total", "tenant", WHO), "{{tenant}}"), width=12,
          description="A second."),
    panel("Refused by limits", "reqps",
          (rate("ml_inference_tenant_limits_refusals_total", "tenant, limit", WHO), "{{tenant}} {{limit}}"), width=12),
    panel("Inputs that were not computed", "short",
          (rate("ml_inference_tenant_usage_inputs_total", "tenant, outcome", f'{WHO},outcome!="completed"'),
           "{{tenant}} {{outcome}}"), width=12, description="A second."),
    panel("Cost in the time shown", "currencyUSD",
          (f"sum by (tenant) (increase(ml_inference_tenant_usage_cost_usd_total{{{WHO}}}[$__range]))", "{{tenant}}"),
          kind="bargauge", width=12, description="For display: bills are made of the records."),
    panel("Cost by model", "currencyUSD",
          (f"sum by (model) (increase(ml_inference_tenant_usage_cost_usd_total{{{WHO}}}[$__range]))", "{{model}}"),
          kind="bargauge", width=12),
    panel("Keys due for rotation", "short", (f"max(ml_inference_keys_rotation_due{{{IN}}})", "keys"), kind="stat", limits=(1,)),
    panel("Refused by limits, all tenants", "reqps", (rate("ml_inference_limits_refusals_total", "limit", IN), "{{limit}}")),
    panel("Limits decided without Redis", "short", (rate("ml_inference_limits_degraded_total", "instance", IN), "{{instance}}")),
])

stale = []
for name, content in {"service": service, "model": model, "tenants": tenants}.items():
    path, text = FOLDER / f"{name}.json", json.dumps(content, indent=1) + "\n"
    if "--check" not in sys.argv:
        path.write_text(text)
    elif not path.exists() or path.read_text() != text:
        stale.append(path.name)
if stale:
    sys.exit(f"run deploy/grafana/dashboards.py: {', '.join(stale)} are not as it writes them")
