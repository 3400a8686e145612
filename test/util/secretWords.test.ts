/**
 * What the masks of foreign text find, and what they leave, measured over the shapes of secrets in fixtures/secretShapes.ts.
 */
import { assert, describe, it } from "@effect/vitest"
import { Config, Effect } from "effect"
import { plainMetadata } from "../../src/usage/redactMetadata.ts"
import { cleanMessage, isClean } from "../../src/util/sanitize.ts"
import { holdsSecretWord, maskSecrets } from "../../src/util/secretWords.ts"
import { repeats } from "../fixtures/repeats.ts"
import { ordinaryMessage, secretMessage, secretShapes } from "../fixtures/secretShapes.ts"
import { Prng } from "../simulation/Prng.ts"

const samples = repeats(2_000)

/** The samples are other ones with each seed, which a failure names. */
const seeded = Effect.orDie(Config.Int("SECRETS_SEED").pipe(Config.withDefault(20_261_201)))

/** So much of a secret is of use to someone who guesses the rest. */
const shownLength = 8

const isShown = (text: string, secret: string): boolean =>
  Array.from({ length: Math.max(1, secret.length - shownLength + 1) }, (_, at) => secret.slice(at, at + shownLength))
    .some((part) => text.includes(part))

const percent = (part: number, of: number) => 100 * part / of

describe("maskSecrets", () => {
  it("is measured over at least 100 shapes", () => assert.isAtLeast(secretShapes.length, 100))

  it.effect.each(secretShapes.map((shape, index) => ({ name: shape[0], shape, index })))(
    "$name: at most 1 % are shown",
    ({ index, shape }) =>
      Effect.gen(function*() {
        const seed = yield* seeded
        const prng = new Prng(seed + 7_919 * index)
        const passed: Array<string> = []
        for (let n = 0; n < samples; n++) {
          const { secrets, text } = secretMessage(shape, prng.split())
          const masked = maskSecrets(text)
          if (secrets.some((secret) => isShown(masked, secret))) passed.push(masked)
        }
        assert.isAtMost(
          percent(passed.length, samples),
          1,
          `SECRETS_SEED=${seed}: ${passed.length} of ${samples}, such as ${passed[0]}`
        )
      })
  )

  it.effect("of 1,000 messages without a secret at most 2 are changed", () =>
    Effect.gen(function*() {
      const seed = yield* seeded
      const prng = new Prng(seed)
      const texts = Array.from({ length: 1_000 }, () => ordinaryMessage(prng.split()))
      const hurt = texts.filter((text) => maskSecrets(text) !== text)
      assert.isAtMost(
        hurt.length,
        2,
        `SECRETS_SEED=${seed}: ${hurt.map((text) => `${text} => ${maskSecrets(text)}`).join("\n")}`
      )
    }))

  it.effect("of several secrets in one text, among others and what does not show, at most 1 % are shown", () =>
    Effect.gen(function*() {
      const seed = yield* seeded
      const prng = new Prng(seed)
      const texts = repeats(10_000)
      const passed: Array<string> = []
      for (let n = 0; n < texts; n++) {
        const messages = Array.from({ length: prng.between(1, 3) }, () =>
          prng.chance(0.3)
            ? { text: ordinaryMessage(prng.split()), secrets: [] }
            : secretMessage(secretShapes[prng.below(secretShapes.length)] ?? assert.fail(), prng.split()))
        const text = messages.map(({ text }) => text).join(prng.pick([" ", "\n", ", ", "\u001b[31m", "|", "; "]))
        const shown = cleanMessage(text)
        assert.isTrue(isClean(shown) && shown.length <= 500, `SECRETS_SEED=${seed}: ${text}`)
        if (messages.some(({ secrets }) => secrets.some((secret) => isShown(shown, secret)))) passed.push(shown)
      }
      assert.isAtMost(percent(passed.length, texts), 1, `SECRETS_SEED=${seed}: ${passed.length}, such as ${passed[0]}`)
    }))

  it("leaves the rest of a message readable", () => {
    const secret = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYzXAMPL3K3Y"
    assert.strictEqual(
      maskSecrets(`GET https://api.example.com/v1/keys/${secret}/grants?limit=5 answered 403 for contact 7`),
      "GET https://api.example.com/v1/keys/<redacted>/grants?limit=5 answered 403 for contact 7"
    )
    assert.strictEqual(
      maskSecrets("postgres://app:Zq8rLw3Yt0@db.internal:5432/app is down"),
      "postgres://<redacted>@db.internal:5432/app is down"
    )
  })

  it("leaves one letter as often as you like, and what was hidden by such", () => {
    for (
      const text of [
        "x".repeat(600),
        "the key ends in XXXXXXXXXXXXXXXXXXXXXXXX1f",
        "xxxxxxxx-xxxx-4xxx-yxxx-xxxxxxxxxxxx"
      ]
    ) {
      assert.strictEqual(maskSecrets(text), text)
    }
  })

  it("judges base64 by what it stands for", () => {
    assert.isFalse(holdsSecretWord(`integration ${btoa("hubspot:test:11636:11525")} is unknown`))
    assert.isTrue(holdsSecretWord(`given ${btoa("{\"key\":\"wJalrXUtnFEMIbPxRfiCYzXAMPL3K3Y\"}")}`))
  })

  it("knows a UUID as a secret only by its name", () => {
    const uuid = "3f1c2b9a-7d54-4a58-9a0e-0c6a1a6a2b11"
    assert.isFalse(holdsSecretWord(`${uuid} is unknown`))
    assert.isFalse(holdsSecretWord(`request id ${uuid}`))
    assert.isTrue(holdsSecretWord(`api_key=${uuid}`))
    assert.isTrue(holdsSecretWord(`{"client_secret": "${uuid}"}`))
    assert.isTrue(holdsSecretWord(`Bearer ${uuid}`))
  })

  it("knows 32 hexadecimal digits as an id only by the name in front", () => {
    const digits = "4bf92f3577b34da6a3ce929d0e0e4736"
    assert.isTrue(holdsSecretWord(`${digits} is unknown`))
    assert.isTrue(holdsSecretWord(`id ${digits}`))
    assert.isFalse(holdsSecretWord(`trace_id=${digits}`))
    assert.isFalse(holdsSecretWord(`Request id: ${digits}`))
    assert.isTrue(holdsSecretWord(`request id ${digits}${digits}`))
    assert.isTrue(holdsSecretWord(`request id ghp_${digits}`))
  })

  it.each<readonly [what: string, text: string, shown: string]>([
    ["masks 16 characters of words after Bearer", "Bearer correct-horse-battery", "Bearer <redacted>"],
    ["masks a half-way random word after Bearer", "Bearer abcd1234efgh", "Bearer <redacted>"],
    ["masks a half-way random word after Basic", "given Basic dXNlcjpwYXNz", "given Basic <redacted>"],
    ["masks user name and password in a URL", "https://user:pw@example.com/", "https://<redacted>@example.com/"],
    ["masks a private key", "-----BEGIN PRIVATE KEY-----\nMIIE\n-----END PRIVATE KEY-----", "<redacted>"],
    [
      "masks a half-way random word after the name of a secret",
      "client_secret=abcd1234efgh",
      "client_secret=<redacted>"
    ],
    ["shows a half-way random word elsewhere", "order abcd1234efgh", "order abcd1234efgh"],
    ["masks a commit's hash", "commit da39a3ee5e6b4b0d3255bfef95601890afd80709", "commit <redacted>"],
    ["masks 20 hexadecimal digits", "4bf92f3577b34da6a3ce", "<redacted>"],
    [
      "shows 20 hexadecimal digits after the name of an id",
      "trace_id=4bf92f3577b34da6a3ce",
      "trace_id=4bf92f3577b34da6a3ce"
    ],
    ["masks 32 letters and digits", "q8ZrLw3Yt0Vd9Aq8ZrLw3Yt0Vd9Aab12", "<redacted>"],
    [
      "shows 32 letters and digits after the name of an id",
      "request_id=q8ZrLw3Yt0Vd9Aq8ZrLw3Yt0Vd9Aab12",
      "request_id=q8ZrLw3Yt0Vd9Aq8ZrLw3Yt0Vd9Aab12"
    ],
    [
      "shows a traceparent",
      "traceparent: 00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
      "traceparent: 00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
    ],
    ["shows a password made of words", "password=correct-horse-battery", "password=correct-horse-battery"],
    ["shows a short password", "hunter2 is wrong", "hunter2 is wrong"]
  ])("%s", (_, text, shown) => assert.strictEqual(maskSecrets(text), shown))

  it.each<readonly [string, string]>([
    ["letters", "a"],
    ["signs of a word", "a/b.c-d_"],
    ["base64", "q+8Zr/Lw3Yt0Vd9A"],
    ["parts of a path that are random, less random and plain", "q8ZrLw3Yt0Vd9Aq8Zr/q8ZrL/plain/"],
    ["words", "one two=three: "],
    ["beginnings of keys", "-----BEGIN "],
    ["beginnings of URLs", "://u"],
    ["beginnings of tokens", "ghp_ "],
    ["UUIDs", "3f1c2b9a-7d54-4a58-9a0e-0c6a1a6a2b11-"],
    ["hexadecimal digits", "4bf92f3577b34da6a3c "],
    ["base64 of base64", "YVdKallXSmpZV0pq"]
  ])("takes a time in proportion to the length: %s", (_, piece) => {
    const text = piece.repeat(Math.ceil(400_000 / piece.length))
    const before = process.cpuUsage()
    cleanMessage(text)
    const { user } = process.cpuUsage(before)
    // it takes half a second; a step for each pair of characters would take minutes
    assert.isBelow(user / 1e6, 10)
  })
})

describe("the metadata of usage reports", () => {
  it.effect("lose Azure's secrets, AWS's and random bytes", () =>
    Effect.gen(function*() {
      const seed = yield* seeded
      const shapes = secretShapes.filter(([name]) => /^(?:AWS|Azure|hex|base64)/.test(name))
      for (const [index, shape] of shapes.entries()) {
        const prng = new Prng(seed + 104_729 * index)
        const kept = Array.from({ length: samples }, () => secretMessage(shape, prng.split()).text)
          .filter((text) => plainMetadata({ note: text }).refused.length === 0)
        assert.isAtMost(percent(kept.length, samples), 1, `SECRETS_SEED=${seed}: ${shape[0]}, such as ${kept[0]}`)
      }
    }))

  it.each(["\u200b", "\u00ad", "\u3164", "\ufe0f", "\u{e0041}"])(
    "lose a secret and the name of one that hold what is not seen (%j)",
    (unseen) => {
      const metadata = {
        [`pass${unseen}word`]: "short",
        note: `ghp_${unseen}16C7e42F292c69${unseen}12E7710c838347Ae178B4a`
      }
      assert.deepStrictEqual(plainMetadata(metadata), { metadata: {}, refused: Object.keys(metadata) })
    }
  )

  it("keep the id of a request under its name", () => {
    const metadata = {
      requestId: "4bf92f3577b34da6a3ce929d0e0e4736",
      trace: { trace_id: "4bf92f3577b34da6a3ce929d0e0e4736" }
    }
    assert.deepStrictEqual(plainMetadata(metadata), { metadata, refused: [] })
  })
})
