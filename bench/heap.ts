/** The memory of this process, for the benches that run with `--expose-gc`. */
import { Effect } from "effect"

/** What is in use after a collection, on the heap and outside of it, in bytes. */
export const memoryInUse = Effect.gen(function*() {
  const { gc } = globalThis
  if (gc === undefined) return yield* Effect.die("run with --expose-gc")
  // several times: what a finalizer releases is only collected by the next one
  for (let i = 0; i < 5; i++) {
    gc()
    yield* Effect.sleep("50 millis")
  }
  const { external, heapUsed } = process.memoryUsage()
  return heapUsed + external
})

export const megabytes = (bytes: number): string => `${(bytes / 1024 / 1024).toFixed(1)} MB`

export const kilobytes = (bytes: number): string => `${(bytes / 1024).toFixed(1)} KB`
