/**
 * The faults that the console offers, described as a client sees them.
 */
import * as Duration from "effect/Duration"
import { Fault } from "./Fault.ts"

export interface FaultPreset {
  readonly label: string
  readonly fault: Fault
}

/** By the values that the console's form sends. */
export const faultPresets: ReadonlyMap<string, FaultPreset> = new Map<string, FaultPreset>([
  ["status-500", { label: "500: server error", fault: Fault.Status({ status: 500 }) }],
  ["status-503", { label: "503: server down", fault: Fault.Status({ status: 503 }) }],
  ["status-401", {
    label: "401: the API key is revoked",
    fault: Fault.Status({
      status: 401,
      body: JSON.stringify({ error: "invalid_api_key", message: "Agent API key is invalid or revoked" })
    })
  }],
  ["firewall", {
    label: "403: a firewall's error page",
    fault: Fault.Status({ status: 403, contentType: "text/html", body: "<h1>Blocked</h1>" })
  }],
  ["rate-limited", { label: "429: rate-limited for 10 seconds", fault: Fault.RateLimited({ retryAfter: 10 }) }],
  ["latency", { label: "Answers come 3 seconds late", fault: Fault.Latency({ duration: "3 seconds" }) }],
  ["hang", { label: "No answer at all", fault: Fault.Hang() }],
  ["reset", { label: "The connection is reset", fault: Fault.Reset({ at: "request" }) }],
  ["lost", { label: "The request is carried out, but its answer is lost", fault: Fault.Reset({ at: "answer" }) }],
  ["truncated", { label: "Only half of the body", fault: Fault.Truncate() }],
  ["short-lived", {
    label: "New tokens live 10 seconds",
    fault: Fault.TokenLifetime({ lifetime: "10 seconds" })
  }],
  ["skewed", {
    label: "The server's clock is 10 minutes ahead",
    fault: Fault.ClockSkew({ offset: Duration.minutes(10) })
  }]
])

/** The name of a fault. A fault that a program set is named by its kind only: what it puts into answers may be secret. */
export const faultLabel = (fault: Fault): string => {
  for (const preset of faultPresets.values()) if (preset.fault === fault) return preset.label
  return fault._tag === "Status" ? `${fault.status}` : fault._tag
}
