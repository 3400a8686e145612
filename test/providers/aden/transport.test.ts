import { assert, it } from "@effect/vitest"
import { Effect } from "effect"
import { HttpClientRequest, HttpClientResponse } from "effect/http"
import { readBody } from "../../../src/providers/aden/transport.ts"

const request = HttpClientRequest.get("https://aden.example.com/v1/credentials/hubspot")

const answer = (body: string, headers: Record<string, string>) =>
  HttpClientResponse.fromWeb(request, new Response(body, { headers }))

it.effect("a body of the length that the answer states is read up to the limit", () =>
  Effect.gen(function*() {
    assert.strictEqual(yield* readBody(answer("\ufeff{}", { "content-length": "5" }), 5), "{}")
    const error = yield* Effect.flip(readBody(answer("{}   ", { "content-length": "5" }), 4))
    assert.match(error.message, /more than 4 bytes/)
  }))

it.effect("what a stated length does not tell is counted: a compressed body, and one in chunks", () =>
  Effect.gen(function*() {
    for (
      const headers of [
        { "content-length": "1", "content-encoding": "gzip" },
        { "content-length": "1", "transfer-encoding": "chunked" },
        { "content-length": "-1" },
        { "content-length": "1, 1" },
        {}
      ]
    ) {
      const error = yield* Effect.flip(readBody(answer("{}   ", headers), 4))
      assert.match(error.message, /more than 4 bytes/, JSON.stringify(headers))
      assert.strictEqual(yield* readBody(answer("{}", headers), 4), "{}")
    }
  }))
