/**
 * Usage reports that the emulator received, each once.
 */
import type * as DateTime from "effect/DateTime"
import * as Effect from "effect/Effect"
import type * as Schema from "effect/Schema"
import { remembered, RingBuffer } from "./RingBuffer.ts"

/**
 * A usage report as it was recorded.
 *
 * @since 0.1.0
 * @category models
 */
export interface UsageRecord {
  readonly integrationId: string
  readonly tenantId: string
  readonly operation: string
  readonly status: string
  /** When the credential was used. */
  readonly timestamp: DateTime.Utc
  readonly metadata: Readonly<Record<string, Schema.Json>>
  readonly idempotencyKey: string | undefined
}

export interface UsageLedger {
  /** Records a report, unless its tenant has sent one with the same `Idempotency-Key`. */
  readonly record: (report: UsageRecord) => Effect.Effect<void>
  readonly records: Effect.Effect<ReadonlyArray<UsageRecord>>
}

export const make: Effect.Effect<UsageLedger> = Effect.sync(() => {
  const records = new RingBuffer<UsageRecord>()
  const seen = new Set<string>()
  return {
    record: (report) =>
      Effect.sync(() => {
        if (report.idempotencyKey !== undefined) {
          const key = JSON.stringify([report.tenantId, report.idempotencyKey])
          if (seen.has(key)) return
          seen.add(key)
          const [oldest] = seen
          if (seen.size > remembered && oldest !== undefined) seen.delete(oldest)
        }
        records.add(report)
      }),
    records: Effect.sync(() => records.all)
  }
})
