/**
 * The faults that a person picks from in the console, by what they look like from outside.
 */
import * as Duration from "effect/Duration"
import { Fault } from "./Fault.ts"

export interface PickedFault {
  readonly label: string
  readonly fault: Fault
}

/** By the names that the console's form sends. */
export const pickedFaults: ReadonlyMap<string, PickedFault> = new Map<string, PickedFault>([
  ["status-500", { label: "500: an error of the server", fault: Fault.Status({ status: 500 }) }],
  ["status-503", { label: "503: the server is down", fault: Fault.Status({ status: 503 }) }],
  ["status-401", {
    label: "401: the API key is revoked",
    fault: Fault.Status({
      status: 401,
      body: JSON.stringify({ error: "invalid_api_key", message: "Agent API key is invalid or revoked" })
    })
  }],
  ["firewall", {
    label: "403: a firewall's page",
    fault: Fault.Status({ status: 403, contentType: "text/html", body: "<h1>Blocked</h1>" })
  }],
  ["rate-limited", { label: "429: rate-limited for 10 seconds", fault: Fault.RateLimited({ retryAfter: 10 }) }],
  ["latency", { label: "Answers come 3 seconds late", fault: Fault.Latency({ duration: "3 seconds" }) }],
  ["hang", { label: "No answer, ever", fault: Fault.Hang() }],
  ["reset", { label: "The connection is reset", fault: Fault.Reset({ at: "request" }) }],
  ["lost", { label: "The request is carried out, its answer lost", fault: Fault.Reset({ at: "answer" }) }],
  ["truncated", { label: "Half of the body", fault: Fault.Truncate() }],
  ["short-lived", {
    label: "New tokens live 10 seconds",
    fault: Fault.TokenLifetime({ lifetime: "10 seconds" })
  }],
  ["skewed", {
    label: "The server's clock is 10 minutes ahead",
    fault: Fault.ClockSkew({ offset: Duration.minutes(10) })
  }]
])

/** What a fault is called. One that a program set is named by its kind alone: what it puts into answers may be secret. */
export const faultLabel = (fault: Fault): string => {
  for (const picked of pickedFaults.values()) if (picked.fault === fault) return picked.label
  return fault._tag === "Status" ? `${fault.status}` : fault._tag
}
