/**
 * Redirects and answers drawn from a seed, over each transport and real sockets: whatever an API writes into them, the credential
 * goes to no other origin, and nobody reads it in an answer or a span. `FUZZ_SEED` sets the seed; a failure names it and the case.
 */
import { assert, describe, it } from "@effect/vitest"
import { Config, Effect, Stream, Tracer } from "effect"
import { HttpClient, HttpClientError } from "effect/http"
import { inspect } from "node:util"
import { TestCredentials } from "../../src/testing/TestCredentials.ts"
import { transports, transportsTested } from "../fixtures/adenClients.ts"
import { clientOf, credentialOf } from "../fixtures/credentialClients.ts"
import type { Received, Reply } from "../fixtures/scriptedServer.ts"
import { redirect, reply, scriptedServer } from "../fixtures/scriptedServer.ts"
import { Prng } from "../simulation/Prng.ts"

const cases = 10_000
const secretCount = 60
const casesAtOnce = 8

const seeded = Effect.orDie(Config.Int("FUZZ_SEED").pipe(Config.withDefault(20_261_201)))

const secretSigns = ["q", "Z", "7", "e", "K", "x", "0", "41", "25", ..."+/=%&#;\\.-_\"<'~:"]

const secretOf = (prng: Prng): string =>
  Array.from({ length: prng.between(8, 30) }, () => secretSigns[prng.below(secretSigns.length)]).join("")

const hex = (code: number) => code.toString(16).padStart(2, "0")

/** Some characters of a text, and those that have to be, written in another way. */
const some = (prng: Prng, text: string, mustBe: string, escaped: (character: string) => string) => {
  const share = prng.pick([0, 0.2, 1])
  return Array.from(text, (sign) => mustBe.includes(sign) || prng.chance(share) ? escaped(sign) : sign).join("")
}

const percent = (prng: Prng) => (sign: string) => {
  const digits = hex(sign.charCodeAt(0))
  return `%${prng.chance(0.5) ? digits : digits.toUpperCase()}`
}

/** A text as a server writes it for one reader. */
const written = (prng: Prng, text: string): string =>
  prng.pick<() => string>([
    () => some(prng, text, "%", percent(prng)),
    () =>
      some(prng, text, "&", (sign) => prng.chance(0.5) ? `&#${sign.charCodeAt(0)};` : `&#x${hex(sign.charCodeAt(0))};`),
    () => some(prng, text, "\\\"", (sign) => `\\u00${hex(sign.charCodeAt(0))}`),
    () => encodeURIComponent(text),
    () => JSON.stringify(text).slice(1, -1).replaceAll("/", "\\/"),
    () => Buffer.from(text).toString("hex")
  ])()

/** What no header and no URL may hold as it is. */
const sendable = (text: string) => text.replace(/[^\x21-\x7e]/g, encodeURIComponent)

interface Case {
  readonly what: string
  readonly api: Reply
  readonly expected: "denied" | "followed" | "answered" | "refused"
  /** What must not be read in the answer, and what must. */
  readonly hidden: ReadonlyArray<string>
  readonly kept: ReadonlyArray<string>
}

const harmless = [
  "a",
  "Zq",
  "/",
  "?",
  "&",
  "=",
  "+",
  "%20",
  "%2F",
  "%25",
  "%252f",
  "%3D",
  "#",
  "key",
  "-",
  "_",
  "&amp;",
  ".",
  "~"
]

const elsewhere = (prng: Prng, secret: string, evil: string): Case => {
  const before = prng.pick(["/?key=", "/a/", "/?x=1#", "/login?next=https%3A%2F%2Fapi.test%2F%3Fkey%3D"])
  const layers = prng.between(1, 4)
  let text = prng.chance(0.3) ? Buffer.from(`{"key":"${secret}"}`).toString("base64") : secret
  for (let layer = 0; layer < layers; layer++) text = written(prng, text)
  const stray = prng.chance(0.15) ? "&y=%zz" : ""
  const location = `${evil}${before}${sendable(text)}${prng.pick(["", "&x=1", "/b"])}${stray}`
  return {
    what: location,
    api: redirect(prng.pick([301, 302, 303, 307, 308]), location),
    expected: "denied",
    hidden: [],
    kept: []
  }
}

const elsewhereWithout = (prng: Prng, evil: string, index: number): Case => {
  const location = `${evil}/${index}/?q=${
    Array.from({ length: prng.below(30) }, () => harmless[prng.below(harmless.length)]).join("")
  }`
  return { what: location, api: redirect(302, location), expected: "followed", hidden: [], kept: [] }
}

/** An answer with the credential in a header or in its body, in one of the ways that are looked for. */
const echo = (prng: Prng, secret: string, isRefused: boolean): Case => {
  const before = "x".repeat(prng.below(7))
  const whole = `${before}${secret}, and more`
  const [text, hidden] = prng.pick<() => readonly [text: string, hidden: string]>([
    () => [secret, secret],
    () => {
      const text = written(prng, secret)
      return [text, text]
    },
    () => {
      const text = some(prng, secret, "", (sign) => `%25${hex(sign.charCodeAt(0))}`)
      return [text, text]
    },
    () => {
      const text = Buffer.from(whole).toString(prng.pick(["base64", "base64url"]))
      // the signs that hold nothing but the secret
      return [text, text.slice(Math.ceil(before.length * 8 / 6), Math.floor((before.length + secret.length) * 8 / 6))]
    }
  ])()
  const inHeader = prng.chance(0.3)
  const api: Reply = inHeader
    ? reply(200, "{}", { [prng.pick(["link", "content-location", "x-was", "set-cookie"])]: sendable(`a=${text}`) })
    : (response) => {
      response.writeHead(200, { "content-type": "text/plain" })
      const body = Buffer.from(`kept ${text} too`)
      const cut = prng.below(body.length)
      response.write(body.subarray(0, cut))
      setImmediate(() => response.end(body.subarray(cut)))
    }
  return {
    what: `${inHeader ? "header" : "body"}: ${text}`,
    api,
    expected: isRefused ? "refused" : "answered",
    hidden: [hidden],
    kept: inHeader || isRefused ? [] : ["kept ", " too"]
  }
}

const drawn = (prng: Prng, secret: string, evil: string, index: number, isRefused: boolean): Case => {
  const kind = prng.below(10)
  if (kind < 4) return elsewhere(prng, secret, evil)
  if (kind < 6) return elsewhereWithout(prng, evil, index)
  return echo(prng, secret, isRefused)
}

const isRefusal = (error: { readonly _tag: string }) =>
  HttpClientError.isHttpClientError(error) && error.reason._tag === "DecodeError"

/** What the client under test came to. */
const outcome = (client: Effect.Success<ReturnType<typeof clientOf>>, url: string, isStream: boolean) =>
  Effect.gen(function*() {
    const response = yield* client.get(url)
    const body = yield* isStream && response.status === 200
      ? Stream.mkString(Stream.decodeText(response.stream))
      : response.text
    return {
      tag: "answered",
      shown: [body, inspect([response, response.headers, response.cookies], { depth: 9 })].join("\n")
    }
  }).pipe(
    Effect.catch((error) => {
      const tag = isRefusal(error) ? "refused" : error._tag === "CredentialHostDenied" ? "denied" : error._tag
      return Effect.succeed({ tag, shown: `${error.message}\n${inspect(error, { depth: 9 })}` })
    })
  )

describe(`over real sockets (${transportsTested})`, () => {
  it.live(`${cases} redirects and answers show the credential to nobody`, () =>
    Effect.gen(function*() {
      const seed = yield* seeded
      const prng = new Prng(seed)
      const secrets = Array.from({ length: secretCount }, () => secretOf(prng))
      const replies = new Map<number, Reply>()
      const asked = new Map<number, Received>()
      const good = yield* scriptedServer({
        replies: [(response, request) => {
          const answer = replies.get(Number(/^\/(\d+)/.exec(request.path)?.[1]))
          ;(answer ?? reply(404, "no such case"))(response, request)
        }]
      })
      const strangers: Array<Received> = []
      const evil = yield* scriptedServer({
        host: "127.0.0.2",
        replies: [(response, request) => {
          const index = /^\/(\d+)\//.exec(request.path)?.[1]
          if (index === undefined) strangers.push(request)
          else asked.set(Number(index), request)
          reply(200, "{}")(response, request)
        }]
      })
      const store = TestCredentials.layer(
        secrets.map((secret, index) => credentialOf(`api${index}`, "api_key", { api_key: secret }))
      )
      const spans: Array<Tracer.NativeSpan> = []
      const tracer = Tracer.make({
        span: (options) => {
          const span = new Tracer.NativeSpan(options)
          spans.push(span)
          return span
        }
      })
      yield* Effect.gen(function*() {
        const clients = yield* Effect.forEach(transports, ({ layer }) =>
          Effect.forEach(secrets, (_, index) =>
            Effect.forEach(["mask", "refuse"] as const, (echo) =>
              clientOf(layer, {
                ref: `api${index}`,
                allowedHosts: [new URL(good.url).host],
                echo,
                ...(index % 2 === 0 ? { params: { key: `{{api${index}}}` } } : {})
              }))))
        yield* Effect.forEach(
          Array.from({ length: cases }, (_, index) => ({ index, prng: prng.split() })),
          ({ index, prng }) =>
            Effect.gen(function*() {
              const which = prng.below(secretCount)
              const mode = prng.below(2)
              const secret = secrets[which] ?? assert.fail()
              const client = clients[index % transports.length]?.[which]?.[mode] ?? assert.fail()
              const { api, expected, hidden, kept, what } = drawn(prng, secret, evil.url, index, mode === 1)
              replies.set(index, api)
              const { shown, tag } = yield* outcome(client, `${good.url}/${index}`, prng.chance(0.5))
              replies.delete(index)
              const faults = [
                tag === (expected === "followed" ? "answered" : expected) ? [] : [`should be ${expected}`],
                asked.has(index) === (expected === "followed") ? [] : ["the other origin"],
                inspect(asked.get(index)).includes(secret) ? ["the other origin got the secret"] : [],
                [secret, encodeURIComponent(secret), ...hidden].filter((text) =>
                  shown.includes(text)
                ),
                kept.filter((text) => !shown.includes(text))
              ].flat()
              if (faults.length > 0) {
                assert.fail(
                  `FUZZ_SEED=${seed}, case ${index} (${
                    transports[index % transports.length]?.name
                  }), the secret ${secret}, ` +
                    `${what}: ${tag}, ${shown}\n${faults.join("\n")}`
                )
              }
            }),
          { concurrency: casesAtOnce, discard: true }
        )
        assert.deepStrictEqual(strangers, [], `FUZZ_SEED=${seed}`)
        for (const span of spans) {
          const shown = [span.name, ...Array.from(span.attributes).flat()].join("\n")
          for (const secret of secrets) {
            assert.notInclude(shown, secret, `FUZZ_SEED=${seed}, a span`)
          }
        }
      }).pipe(
        Effect.provide(store),
        Effect.provideService(HttpClient.TracerHeaderFilter, () => true),
        Effect.withTracer(tracer)
      )
    }), { timeout: 900_000 })
})
