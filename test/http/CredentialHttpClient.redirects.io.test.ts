/**
 * A redirect to another origin never takes the credential along in its URL, however the server writes the URL that it repeats.
 */
import { assert, describe, it } from "@effect/vitest"
import { Effect, Exit, Layer, Schema } from "effect"
import { HttpClient, HttpClientResponse } from "effect/http"
import { inspect } from "node:util"
import type { Credential } from "../../src/model/Credential.ts"
import { TestCredentials } from "../../src/testing/TestCredentials.ts"
import { transports, transportsTested } from "../fixtures/adenClients.ts"
import { clientOf, credentialOf, testStore, token } from "../fixtures/credentialClients.ts"
import { repeats } from "../fixtures/repeats.ts"
import { redirect, reply, scriptedServer } from "../fixtures/scriptedServer.ts"

/** Base64 of random bytes, as many keys are: each of its signs is written in another way somewhere. */
const key = "q+8Zr/Lw3+Yt0/Vd9A=="

/** As a value in a query that was encoded so many times. */
const encodedTimes = (times: number, text: string): string =>
  times === 0 ? text : encodeURIComponent(encodedTimes(times - 1, text))

const byCharacter = (text: string, written: (code: number) => string) =>
  Array.from(text, (character) => /\w/.test(character) ? character : written(character.charCodeAt(0))).join("")

const hex = (code: number) => code.toString(16).padStart(2, "0")

const base64 = (text: string) => Buffer.from(text).toString("base64")

/** As some encoders of base64 write it. */
const inLines = (length: number, text: string, end: string) =>
  (text.match(new RegExp(`.{1,${length}}`, "g")) ?? []).join(end)

const original = `https://api.good.test/v1/search?q=1&key=${encodeURIComponent(key)}`

const storeOf = (credential: Credential) => TestCredentials.layer([credential])

const inParameter = { ref: "api", params: { key: "{{api.api_key}}" } }

/** An API that redirects to `location`, and how often the other origin was asked. */
const redirectingTo = (location: string) => {
  const asked: Array<string> = []
  const transport = Layer.succeed(
    HttpClient.HttpClient,
    HttpClient.make((request, { host, href }) =>
      Effect.sync(() => {
        if (host !== "api.good.test") asked.push(href)
        return HttpClientResponse.fromWeb(
          request,
          host === "api.good.test" ? new Response(null, { status: 302, headers: { location } }) : new Response("{}")
        )
      })
    )
  )
  return { asked, transport }
}

const follow = Effect.fnUntraced(function*(location: string, secret: string) {
  const { asked, transport } = redirectingTo(location)
  const exit = yield* Effect.exit(
    Effect.provide(
      Effect.flatMap(
        clientOf(transport, { ...inParameter, allowedHosts: ["api.good.test"] }),
        (client) => client.get("https://api.good.test/v1/search?q=1")
      ),
      storeOf(credentialOf("api", "api_key", { api_key: secret }))
    )
  )
  return { asked, exit }
}, Effect.scoped)

const denialOf = Effect.fnUntraced(function*(location: string, secret: string) {
  const { asked, exit } = yield* follow(location, secret)
  const error = yield* Effect.flip(exit).pipe(
    Effect.orElseSucceed(() => assert.fail(`${JSON.stringify(secret)} went along to ${location}`))
  )
  assert(error._tag === "CredentialHostDenied", inspect(error))
  assert.deepStrictEqual(asked, [])
  return error
})

describe("a redirect elsewhere whose URL holds the credential is denied", () => {
  it.effect.each<readonly [string, string]>([
    ["as it is", `/?key=${key}`],
    ["encoded once", `/?key=${encodeURIComponent(key)}`],
    ["encoded twice", `/?key=${encodedTimes(2, key)}`],
    ["encoded six times", `/?key=${encodedTimes(6, key)}`],
    ["in the original URL", `/login?next=${encodeURIComponent(original)}`],
    ["in the original URL, encoded once more", `/login?next=${encodedTimes(2, original)}`],
    ["beside a stray percent sign", `/?q=%zz&key=${encodedTimes(2, key)}`],
    ["beside a percent sign that was encoded", `/?q=%2525zz&key=${encodedTimes(2, key)}`],
    ["with a space for each plus", `/?key=${encodeURIComponent(key.replaceAll("+", " "))}`],
    ["encoded in part", `/?key=${key.replaceAll("/", "%2f")}`],
    ["encoded in part twice", `/?key=${key.replaceAll("/", "%252f").replace("=", "%3D")}`],
    ["every character of it encoded", `/?key=${Array.from(key, (sign) => `%${hex(sign.charCodeAt(0))}`).join("")}`],
    ["without its padding", `/?key=${encodeURIComponent(key.replaceAll("=", ""))}`],
    ["in the alphabet of base64 for URLs", `/?key=${key.replaceAll("+", "-").replaceAll("/", "_")}`],
    ["in the path", `/keys/${encodeURIComponent(key)}/x`],
    ["in segments of the path", `/keys/${key}`],
    ["in a path with steps in it", `/keys/${key.replaceAll("/", "/./")}`],
    ["in the fragment", `/#key=${key}`],
    ["over query and fragment", `/?key=${key.replace("/", "#")}`],
    ["as HTML, by hexadecimal number", `/?key=${byCharacter(key, (code) => `&#x${hex(code)};`)}`],
    ["as HTML, by number", `/?key=${encodeURIComponent(byCharacter(key, (code) => `&#${code};`))}`],
    ["as JSON", `/?state=${encodeURIComponent(JSON.stringify({ key }).replaceAll("/", "\\/"))}`],
    ["as JSON for HTML", `/?state=${encodeURIComponent(byCharacter(key, (code) => `\\u00${hex(code)}`))}`],
    ["as base64", `/?state=${encodeURIComponent(base64(`{"next":"${original}"}`))}`],
    ["as base64 for URLs", `/login/${Buffer.from(original).toString("base64url")}/x`],
    ["as base64, twice", `/?state=${base64(`x=${base64(original)}`)}`],
    [
      "as base64 in lines of 60",
      `/?state=${encodeURIComponent(inLines(60, base64(`{"nonce":"c7b3a19e0d5f2846b1e0","key":"${key}"}`), "\n"))}`
    ],
    [
      "as base64 in lines of 76",
      `/?state=${encodeURIComponent(inLines(76, base64(`{"next":"${original}"}`), "\r\n"))}`
    ],
    ["as base64 in words", `/?state=${inLines(10, base64(`{"next":"${original}"}`), "+")}`],
    [
      "as base64 in lines that JSON holds",
      `/?state=${encodeURIComponent(JSON.stringify(inLines(60, base64(original), "\n")))}`
    ],
    ["as base64 in segments of the path", `/state/${inLines(7, base64(original), "/")}`],
    ["as base64 in segments of the path, each encoded", `/state/${inLines(7, base64(original), "%2F")}`],
    ["as hexadecimal digits", `/?state=${Buffer.from(key).toString("hex")}`],
    ["as hexadecimal digits of the original URL", `/x${Buffer.from(original).toString("hex").toUpperCase()}`],
    [
      "as hexadecimal digits, each escaped as JSON twice",
      `/?key=${Array.from(Buffer.from(key).toString("hex"), (digit) => `\\\\u00${hex(digit.charCodeAt(0))}`).join("")}`
    ],
    ["as HTML, by numbers with zeros", `/?key=${encodeURIComponent(byCharacter(key, (code) => `&#00000${code};`))}`],
    ["as HTML, by numbers with many zeros", `/?key=${byCharacter(key, (code) => `&#x${"0".repeat(40)}${hex(code)};`)}`],
    ["as a text of JavaScript", `/?key=${encodeURIComponent(byCharacter(key, (code) => `\\x${hex(code)}`))}`],
    ["as JavaScript escapes it for URLs", `/?key=${encodeURIComponent(byCharacter(key, (code) => `%u00${hex(code)}`))}`]
  ])("%s", ([, place]) =>
    Effect.gen(function*() {
      const error = yield* denialOf(`https://other.test${place}`, key)
      assert.strictEqual(error.host, "other.test")
      assert.notInclude(error.message, "q+8Zr")
    }))

  it.effect.each<readonly [string, string, string]>([
    ["that ends with a percent sign", "100%", "/?key=100%2525&x=1"],
    ["that looks encoded", "p%41ss%2Fword", "/?key=p%252541ss%25252Fword"],
    ["that looks like HTML", "&lt;q7&amp;", `/?key=${encodedTimes(2, "&lt;q7&amp;")}`],
    ["of signs only", "+/+=%&#", `/?key=${encodedTimes(3, "+/+=%&#")}`],
    ["of four characters", "a+/=", `/?key=${encodedTimes(2, "a+/=")}`],
    ["outside ASCII", "pässwörd€", `/?key=${encodedTimes(2, "pässwörd€")}`],
    [
      "that ends with a backslash, as JSON",
      "pa55\\",
      `/?state=${encodeURIComponent(JSON.stringify({ key: "pa55\\" }))}`
    ],
    [
      "of signs that JSON escapes",
      `a"/\\b`,
      `/?state=${encodeURIComponent(JSON.stringify(`a"/\\b`).replaceAll("/", "\\/"))}`
    ],
    ["of signs that JSON escapes, as JSON twice", `a"\\b`, `/?state=${JSON.stringify(JSON.stringify(`a"\\b`))}`],
    ["of four characters, as base64", "Pw7!", `/?state=${base64("Pw7!").replaceAll("=", "")}`],
    ["of eight characters, as base64", "Pa55word", `/?state=${base64("Pa55word")}`],
    ["of eight characters, in base64 in a path", "Pa55word", `/go/${base64("user:Pa55word")}`],
    ["of eight characters, as hexadecimal digits", "Pa55word", `/?state=${Buffer.from("Pa55word").toString("hex")}`],
    [
      "outside ASCII, encoded as UTF-8 twice",
      "pässwörd€",
      `/?key=${encodeURIComponent(Buffer.from("pässwörd€").toString("latin1"))}`
    ],
    ["of a sign with two halves, as JSON for HTML", "pw1😀", "/?key=pw1\\ud83d\\ude00"],
    ["outside ASCII, as bytes of Latin-1", "pässwörd", "/?key=p%E4ssw%F6rd"],
    ["outside ASCII, as bytes of UTF-8 without any encoding", "pässwörd", "/?key=p\u00c3\u00a4ssw\u00c3\u00b6rd"]
  ])("a key %s", ([, secret, place]) => denialOf(`https://other.test${place}`, secret))

  it.effect.each<readonly [string, string]>([
    ["a key of letters and digits", "9f8e7d6c5b4aKx"],
    ["a short one", "Pa55word"]
  ])("%s as the name of a host, which its error does not show", ([, secret]) =>
    Effect.gen(function*() {
      for (const name of [secret, secret.toLowerCase()]) {
        const error = yield* denialOf(`https://${name}.other.test/`, secret)
        assert.notInclude(inspect(error).toLowerCase() + error.message.toLowerCase(), secret.toLowerCase())
      }
    }))

  it.effect.each<readonly [string, string]>([
    ["base64", base64(key).replaceAll("=", "")],
    ["hexadecimal digits", Buffer.from(key).toString("hex")]
  ])("%s of it as the name of a host, which its error does not show", ([, name]) =>
    Effect.gen(function*() {
      for (const location of [`https://${name}/`, `//${name}.other.test:8443/x`, `https:\t//${name}/`]) {
        const error = yield* denialOf(location, key)
        assert.strictEqual(error.host, "(not shown)")
        assert.notInclude(error.message.toLowerCase(), name.toLowerCase())
      }
    }))

  it.effect.each<readonly [string, string]>([
    ["as they are", "user:pw"],
    ["encoded", "user%253Apw"],
    ["as base64", base64("user:pw")],
    ["as base64 without its padding", base64("user:pw").replaceAll("=", "")],
    ["as base64 with what stands before", base64("x user:pw")]
  ])("user name and password together, %s", ([, written]) =>
    Effect.gen(function*() {
      const { asked, transport } = redirectingTo(`https://other.test/?state=${written}`)
      const client = yield* clientOf(transport, { ref: "api", allowedHosts: ["api.good.test"] })
      assert.strictEqual((yield* Effect.flip(client.get("https://api.good.test/")))._tag, "CredentialHostDenied")
      assert.deepStrictEqual(asked, [])
    }).pipe(
      Effect.provide(storeOf(credentialOf("api", "basic_auth", { username: "user", password: "pw" })))
    ))

  it.effect("also one that is refused by now: it may be good elsewhere", () =>
    Effect.gen(function*() {
      const sent: Array<string> = []
      const transport = Layer.succeed(
        HttpClient.HttpClient,
        HttpClient.make((request, url) =>
          Effect.sync(() => {
            sent.push(url.href)
            const location = `https://other.test/?was=${encodeURIComponent(sent[0] ?? "")}`
            return HttpClientResponse.fromWeb(
              request,
              sent.length === 1
                ? new Response(null, { status: 401 })
                : new Response(null, { status: 302, headers: { location } })
            )
          })
        )
      )
      const client = yield* clientOf(transport, {
        ref: "hubspot",
        params: { key: "{{hubspot}}" },
        allowedHosts: ["api.good.test"]
      })
      assert.strictEqual((yield* Effect.flip(client.get("https://api.good.test/")))._tag, "CredentialHostDenied")
      assert.strictEqual(sent.length, 2)
    }).pipe(Effect.provide(testStore)))

  const signs = [
    "q",
    "Z",
    "7",
    "e",
    "41",
    "+",
    "/",
    "=",
    "%",
    "&",
    "#",
    ";",
    "\\",
    ".",
    "-",
    "_",
    " ",
    "\"",
    "<",
    "ä",
    "€"
  ]

  const Writing = Schema.Struct({
    as: Schema.Literals(["percent", "percent", "html", "json", "base64", "hex"]),
    /** Which characters are written in another way; begun again where the text is longer. */
    which: Schema.Array(Schema.Boolean).check(Schema.isMinLength(1), Schema.isMaxLength(8)),
    isUpper: Schema.Boolean
  })

  /** A text as a server writes it for one reader: what means something to the reader is always escaped. */
  const written = (text: string, { as, isUpper, which }: typeof Writing.Type): string => {
    const digits = (code: number) => isUpper ? hex(code).toUpperCase() : hex(code)
    const bytes = (text: string) => Array.from(Buffer.from(text), digits)
    const byCharacter = (mustBe: string, escaped: (character: string) => string) =>
      Array.from(
        text,
        (character, index) =>
          which[index % which.length] === true || mustBe.includes(character) ? escaped(character) : character
      ).join("")
    switch (as) {
      case "percent":
        return byCharacter("%", (character) => bytes(character).map((byte) => `%${byte}`).join(""))
      case "html":
        return byCharacter("&", (character) => {
          const code = character.charCodeAt(0)
          return isUpper ? `&#x${digits(code)};` : `&#${code};`
        })
      case "json":
        return byCharacter("\\\"", (character) => `\\u${digits(character.charCodeAt(0)).padStart(4, "0")}`)
      case "base64":
        return isUpper ? base64(text) : inLines(7, base64(text), "\n")
      case "hex":
        return bytes(text).join("")
    }
  }

  it.effect.prop(
    "whatever signs a key has, and however often and in which ways it was encoded",
    {
      secret: Schema.Array(Schema.Literals(signs)).check(Schema.isMinLength(4), Schema.isMaxLength(30)),
      writings: Schema.Array(Writing).check(Schema.isMinLength(1), Schema.isMaxLength(4)),
      place: Schema.Literals([
        "/?key=_&x=1",
        "/a/_/b",
        "/?x=1#_&y",
        "/?next=https%3A%2F%2Fapi.good.test%2F%3Fkey%3D_&x=1"
      ])
    },
    ({ place, secret, writings }) => {
      const text = secret.join("")
      const shown = writings.reduce(written, text)
      // no header holds it as it is
      const sent = shown.replace(/[€\n]/g, encodeURIComponent)
      return denialOf(`https://other.test${place.replace("_", () => sent)}`, text)
    },
    { arbitrary: { runs: repeats(300) } }
  )
})

describe("a redirect elsewhere whose URL cannot be decoded is denied", () => {
  it.effect.each<readonly [string, string]>([
    ["a stray percent sign", "/?q=%zz"],
    ["one at the end", "/?q=100%"],
    ["an escape of JavaScript's", "/?q=%u0041"],
    ["half an escape", "/%2"],
    ["more escapes in one another than can be read", `/?q=${"\\".repeat(2_000)}`]
  ])("%s", ([, place]) =>
    Effect.gen(function*() {
      const error = yield* denialOf(`https://other.test${place}`, key)
      assert.match(error.message, /cannot be decoded/)
    }))
})

describe("a redirect elsewhere that does not hold it is followed", () => {
  const isFollowed = Effect.fnUntraced(function*(location: string, secret: string) {
    const { asked, exit } = yield* follow(location, secret)
    assert.isTrue(Exit.isSuccess(exit), `${location}: ${inspect(exit)}`)
    assert.strictEqual(asked.length, 1)
  })

  it.effect.each<readonly [string, string]>([
    ["nothing at all", "/"],
    ["escapes of signs", "/?q=100%25&x=a+b%20c%2Fd"],
    ["a percent sign that was encoded", "/?q=%2525zz"],
    ["escapes of Latin-1", "/caf%E9?name=%FF%FE"],
    ["a URL encoded over and over", `/login?next=${encodedTimes(3, "https://api.good.test/v1/search?q=1&page=2")}`],
    [
      "base64 of a URL",
      `/login?state=${base64(JSON.stringify({ next: "https://api.good.test/v1/search", nonce: "q+8Zr" }))}`
    ],
    ["4 KB of base64", `/?SAMLRequest=${encodeURIComponent(base64("\u00e9<x>".repeat(600)))}`],
    ["8 KB of letters", `/?token=${"aZ7k".repeat(2_000)}`],
    ["HTML and JSON", "/?a=1&amp;b=&#x2F;\\u0041"],
    ["hexadecimal digits", "/commit/c7b3a19e0d5f2846b1e09c7d3f5a8e6b2d4c1f70?id=7d1f9a52-3c0e-4b8d-9e6f-1a2b3c4d5e6f"],
    ["a percent sign that was encoded over and over", `/?q=%${"25".repeat(2_000)}`],
    ["the beginning of the key", "/keys/q+8Zr"]
  ])("%s", ([, place]) => isFollowed(`https://other.test${place}`, key))

  it.effect("also one that only has words in common with a password", () =>
    isFollowed("https://other.test/api/token?user=me", "api_token"))

  it.effect("also the redirects of one that was never sent it, whatever their URLs hold", () =>
    Effect.gen(function*() {
      const asked: Array<string> = []
      const location: Readonly<Record<string, string>> = {
        "api.good.test": "https://second.test/",
        "second.test": `https://third.test/?q=%zz&key=${encodeURIComponent(key)}`
      }
      const transport = Layer.succeed(
        HttpClient.HttpClient,
        HttpClient.make((request, url) =>
          Effect.sync(() => {
            asked.push(url.host)
            const next = location[url.host]
            return HttpClientResponse.fromWeb(
              request,
              next === undefined ? new Response("{}") : new Response(null, { status: 302, headers: { location: next } })
            )
          })
        )
      )
      const client = yield* clientOf(transport, { ...inParameter, allowedHosts: ["api.good.test", "second.test"] })
      assert.strictEqual((yield* client.get("https://api.good.test/")).status, 200)
      assert.deepStrictEqual(asked, ["api.good.test", "second.test", "third.test"])
    }).pipe(Effect.provide(storeOf(credentialOf("api", "api_key", { api_key: key })))))

  const pieces = [
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
    "%E9",
    "%3D",
    "#",
    "key",
    "-",
    "_",
    "&amp;",
    ".",
    "~",
    "q8Zr"
  ]

  it.effect.prop(
    "whatever it is made of",
    [Schema.Array(Schema.Literals(pieces)).check(Schema.isMaxLength(40))],
    ([parts]) => isFollowed(`https://other.test/${parts.join("")}`, key),
    { arbitrary: { runs: repeats(300) } }
  )
})

describe(`over real sockets (${transportsTested})`, () => {
  it.live.each(transports)(
    "$name: the other origin is not even connected to",
    ({ layer: transport }) =>
      Effect.gen(function*() {
        const good = yield* scriptedServer({ replies: [reply(200, {})] })
        const evil = yield* scriptedServer({ host: "127.0.0.2", replies: [reply(200, { from: "evil" })] })
        const client = yield* clientOf(transport, { ...inParameter, allowedHosts: [new URL(good.url).host] })
        for (
          const location of [
            (path: string) => `${evil.url}/?next=${encodeURIComponent(path)}`,
            (path: string) => `${evil.url}/?next=${encodedTimes(2, path)}`,
            (path: string) => `${evil.url}${path}&q=%zz`,
            (path: string) => `${evil.url}/?q=%zz&next=${encodeURIComponent(path)}`
          ]
        ) {
          good.script((response, request) => redirect(302, location(request.path))(response, request))
          const error = yield* Effect.flip(client.get(`${good.url}/v1/search?q=1`))
          assert(error._tag === "CredentialHostDenied", inspect(error))
        }
        assert.strictEqual(evil.connections(), 0)
      }).pipe(Effect.provide(storeOf(credentialOf("api", "api_key", { api_key: key }))))
  )
})

describe("at the same origin", () => {
  it.effect("a redirect is followed with the credential, whatever its URL holds", () =>
    Effect.gen(function*() {
      const sent: Array<string> = []
      const transport = Layer.succeed(
        HttpClient.HttpClient,
        HttpClient.make((request, url) =>
          Effect.sync(() => {
            sent.push(url.href)
            const location = `/next?was=${encodeURIComponent(url.href)}&q=%zz`
            return HttpClientResponse.fromWeb(
              request,
              sent.length === 1 ? new Response(null, { status: 302, headers: { location } }) : new Response("{}")
            )
          })
        )
      )
      const options = { ref: "hubspot", params: { key: "{{hubspot}}" }, allowedHosts: ["api.good.test"] }
      const client = yield* clientOf(transport, options)
      assert.strictEqual((yield* client.get("https://api.good.test/")).status, 200)
      assert.strictEqual(new URL(sent[1] ?? "").searchParams.get("key"), token)
    }).pipe(Effect.provide(testStore)))
})
