"""What the on-call engineer sees: one registry, in the supervisor; workers report over their wire.

Names and base units after the Prometheus conventions; no job ids and no paths in labels.
"""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

_FAST = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 1800)


class Metrics:
    """All metrics of a daemon, in a registry of their own."""

    def __init__(self) -> None:
        self.registry = registry = CollectorRegistry()

        def counter(name: str, text: str, *labels: str) -> Counter:
            return Counter(f"thumbd_{name}", text, labels, registry=registry)

        def gauge(name: str, text: str, *labels: str) -> Gauge:
            return Gauge(f"thumbd_{name}", text, labels, registry=registry)

        def histogram(name: str, text: str, *labels: str) -> Histogram:
            return Histogram(f"thumbd_{name}", text, labels, registry=registry, buckets=_FAST)

        self.build_info = gauge("build_info", "Versions in use; always 1", "version", "ffmpeg", "driver")
        self.ready = gauge("ready", "1 while /readyz says ready")
        self.jobs_submitted = counter("jobs_submitted", "Jobs accepted", "source")
        self.jobs_rejected = counter("jobs_rejected", "Jobs refused", "source", "reason")
        self.jobs_finished = counter("jobs_finished", "Jobs that came to their end", "outcome")
        self.job_retries = counter("job_retries", "Attempts that will be made again", "reason")
        self.jobs = gauge("jobs", "Jobs in the table", "state")
        self.oldest_queued = gauge("oldest_queued_job_timestamp_seconds", "When the oldest waiting job came; 0: none")
        self.queue_duration = histogram("job_queue_duration_seconds", "From due to claimed")
        self.job_duration = histogram("job_duration_seconds", "From claimed to its end", "outcome")
        self.stage_duration = histogram("stage_duration_seconds", "Of one task, summed over its threads", "stage")
        self.source_read = counter("source_read_bytes", "Bytes read from sources")
        self.source_requests = counter("source_requests", "Requests for remote sources", "scheme", "outcome")
        self.source_received = counter("source_received_bytes", "Bytes that came of remote sources", "scheme")
        self.output_written = counter("output_written_bytes", "Bytes written to the store")
        self.frames_decoded = counter("frames_decoded", "Frames that came out of decoders", "device", "codec")
        self.pictures_encoded = counter("pictures_encoded", "Pictures and sheets encoded", "format")
        self.batch_jobs = histogram("batch_jobs", "Jobs that shared one pass over a source")
        self.decode_fallbacks = counter("decode_fallbacks", "Sources that the wanted device refused", "reason")
        self.cache_requests = counter("cache_requests", "Outputs that might have been made before", "result")
        self.worker_exits = counter("worker_exits", "Worker processes that ended", "reason")
        for reason in ("ok", "signal", "timeout", "lied", "device"):
            self.worker_exits.labels(reason)
        self.workers = gauge("workers", "Worker processes", "state")
        self.lease_lost = counter("lease_lost", "Attempts that found their job taken over")
        self.table_duration = histogram("table_operation_duration_seconds", "Database operations", "op")
        self.spool_files = gauge("spool_files", "Files that the last scan left in the drop folders", "folder")
        self.spool_scan_duration = histogram("spool_scan_duration_seconds", "One scan of the drop folders")
        self.spool_free = gauge("spool_free_bytes", "Free space on the fuller of the spool's and the store's disks")
        self.intake_paused = gauge("intake_paused", "1 while no jobs are taken in, by reason", "reason")
        self.org_throttled = counter("org_throttled", "Requests that an allowance did not cover", "limit")
        self.http_requests = counter("http_requests", "Answers", "route", "method", "code")
        self.http_duration = histogram("http_request_duration_seconds", "From a request to its answer", "route")
        self.org_running = gauge("org_running_jobs", "Jobs being worked on", "org")
        self.owed = gauge("owed", "Callbacks, deliveries and expiries that are still owed", "kind")
        self.owed_finished = counter("owed_finished", "Those that ended", "kind", "outcome")
        self.owed_duration = histogram("owed_duration_seconds", "One attempt at what is owed", "kind")
