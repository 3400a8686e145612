/**
 * The metrics of docs/observability.md. Labels have few values: no id, no ref, no text from outside.
 */
import * as Metric from "effect/Metric"

/** A metric by its labels. It is made once for each set of their values, which are few. */
const labelled = <Label extends string>(metric: Metric.Metric<number, unknown>) => {
  const series = new Map<string, Metric.Metric<number, unknown>>()
  return (labels: Readonly<Record<Label, string>>): Metric.Metric<number, unknown> => {
    const values = Object.values(labels).join(" ")
    const made = series.get(values) ?? Metric.withAttributes(metric, labels)
    series.set(values, made)
    return made
  }
}

export const reads = labelled<"source">(Metric.counter("aden_credentials_reads_total", {
  description: "Reads of credentials, by where the credential came from",
  incremental: true
}))

export const readFailures = labelled<"error">(Metric.counter("aden_credentials_read_failures_total", {
  description: "Reads of credentials that failed, by error",
  incremental: true
}))

export const refreshes = labelled<"question" | "outcome">(Metric.counter("aden_credentials_refreshes_total", {
  description: "Requests to Aden for a credential, by kind and outcome",
  incremental: true
}))

export const refreshDuration = labelled<"question">(Metric.histogram("aden_credentials_refresh_duration_seconds", {
  description: "How long requests to Aden for a credential took, retries included",
  boundaries: [0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30]
}))

export const servedStale = Metric.counter("aden_credentials_served_stale_total", {
  description: "Times a cached credential was served although Aden did not confirm it",
  incremental: true
})

export const requests = labelled<"endpoint" | "status">(Metric.counter("aden_credentials_requests_total", {
  description: "HTTP requests to Aden, by endpoint and status",
  incremental: true
}))

export const usageReports = labelled<"outcome">(Metric.counter("aden_credentials_usage_reports_total", {
  description: "Usage reports, by outcome",
  incremental: true
}))

export const usageQueueDepth = Metric.gauge("aden_credentials_usage_queue_depth", {
  description: "Usage reports waiting in this process"
})
