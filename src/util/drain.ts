import * as Effect from "effect/Effect"
import type * as HttpClientResponse from "effect/http/HttpClientResponse"
import * as Stream from "effect/Stream"

/** The longest body that is read to its end, in bytes. */
const maximumBytes = 64 * 1024

/**
 * Reads and discards a body, so that the connection can be reused. Gives up a body that is too long, or does not end within a
 * second, which closes the connection.
 */
export const drain = ({ stream }: HttpClientResponse.HttpClientResponse): Effect.Effect<void> =>
  Effect.suspend(() => {
    let length = 0
    return Stream.runForEachWhile(stream, (chunk) =>
      Effect.sync(() => {
        length += chunk.length
        return length <= maximumBytes
      }))
  }).pipe(Effect.timeoutOption("1 second"), Effect.ignore)
