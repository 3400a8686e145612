/**
 * A database whose every field somebody without the key may write: random edits, and what programs get and people see meanwhile.
 */
import { assert, it } from "@effect/vitest"
import {
  type Actionable,
  AdenConnectionFailed,
  AdenUnavailable,
  Credential,
  type CredentialProvider,
  CredentialProviders,
  CredentialStorage,
  CredentialStore
} from "aden-credentials"
import { Context, DateTime, Duration, Effect, Exit, Layer, Option, Redacted, Schedule } from "effect"
import process from "node:process"
import { CurrentTenant } from "../../src/model/currentTenant.ts"
import { assertDocumentShowable, assertShowable, hostileTexts } from "../fixtures/hostileTexts.ts"
import { repeats } from "../fixtures/repeats.ts"
import { changesOf, until, valueOf } from "./observing.ts"
import type { Chance, Row, Tampered } from "./tampered.ts"

const chanceOf = (seed: number): Chance => {
  let state = seed
  const next = () => {
    state = (state + 0x6d2b79f5) | 0
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state)
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32
  }
  const below = (limit: number) => Math.floor(next() * limit)
  return { below, of: (choices) => choices[below(choices.length)] ?? choices[0] }
}

const [firstText, ...otherTexts] = hostileTexts.map(([, text]) => text.slice(0, 3_000))

/** A text that nobody with the key wrote. The last two would be shown as they are. */
export const hostileText = ({ of }: Chance): string =>
  of([firstText ?? "", ...otherTexts, "", "{}", "null", "https://evil.example/connect", "EvilError"])

/** An id that nobody with the key wrote: a name of an entry, which is shown. */
export const plantedId = (chance: Chance): string => `planted ${hostileText(chance).replaceAll(/evil/gi, "e")}`

const numbers = ["0", "1", "2", "3", "-1", "999999999999999", "1000000000000000", "9007199254740991"] as const

/** A state that nobody with the key wrote. */
const forgedState = (chance: Chance, id: string): string => {
  const time = () =>
    chance.of(["2026-12-01T10:00:00Z", "2999-01-01T00:00:00Z", "0000-01-01T00:00:00Z", hostileText(chance)])
  const fields: Record<string, unknown> = {
    id: chance.of([id, "other", hostileText(chance)]),
    generation: Number(chance.of(numbers)),
    account: { provider: chance.of(["google", hostileText(chance)]), alias: hostileText(chance) },
    lastConfirmed: time(),
    blockedSince: time(),
    reauthorizationUrl: hostileText(chance),
    refusedSince: time(),
    coolDownUntil: time(),
    hasSiblings: chance.of([true, false, "yes"]),
    mayBeBlocked: chance.of([true, false]),
    lastError: hostileText(chance),
    mac: chance.of(["", "x".repeat(43), "A".repeat(43)])
  }
  for (const name of Object.keys(fields)) {
    if (name !== "generation" && chance.below(3) === 0) delete fields[name]
  }
  return JSON.stringify(fields)
}

const cut = (text: string | null, chance: Chance): string | null => {
  if (text === null || text === "") return text
  const at = chance.below(text.length)
  return chance.of([text.slice(0, at), `${text.slice(0, at)}A${text.slice(at + 1)}`, `${text} `])
}

const ids = ["hubspot", "slack", "google_1", "google_2"] as const

/** Aden is away: whatever is served comes from the database. */
const away: CredentialProvider = {
  id: "aden_sync",
  refreshBuffer: Duration.minutes(5),
  clockOffset: Effect.succeed(0),
  canHandle: ({ providerId }) => providerId === "aden_sync",
  refresh: ({ id }) => unavailable(id),
  fetch: (id) => unavailable(id),
  validate: ({ id }) => unavailable(id),
  list: Effect.suspend(() => unavailable("list"))
}
const unavailable = (id: string) =>
  Effect.fail(new AdenUnavailable({ id, reason: new AdenConnectionFailed({ detail: "ECONNREFUSED" }) }))

const credentialOf = (place: string, id: string) =>
  Effect.map(DateTime.now, (now) =>
    new Credential({
      ...Credential.fromAccessToken({
        id,
        accessToken: Redacted.make(`token of ${id} in ${place}`),
        expiresAt: DateTime.add(now, { hours: 3 }),
        provider: id.split("_")[0]
      }),
      providerId: "aden_sync",
      lastRefreshed: now
    }))

const storeOver = (storage: CredentialStorage["Service"]) =>
  Effect.map(
    Layer.build(Layer.fresh(
      CredentialStore.layer().pipe(
        Layer.provide(Layer.succeed(CredentialProviders, { all: [away] })),
        Layer.provide(Layer.succeed(CredentialStorage, storage))
      )
    )),
    Context.get(CredentialStore)
  )

const seed = Number(process.env["TAMPER_SEED"] ?? Math.floor(Math.random() * 2 ** 31))

/** What a person is shown: all but the ids, which stay as they are in the fields of an answer. */
const shownOf = (value: unknown): string =>
  JSON.stringify(value, (name, part: unknown) => name === "id" || name === "ref" ? undefined : part) ?? "null"

const assertShown = (text: string, where: string) => {
  assertShowable(text, where)
  assert.notMatch(text, /evil/i, where)
}

export const randomEdits = (
  tampered: Effect.Effect<Tampered, unknown, Effect.Services<ReturnType<Tampered["storageIn"]>>>
) => {
  const edits = repeats(1_000, 10)
  it.live(
    `${edits} random edits by somebody without the key (TAMPER_SEED=${seed}) show nothing, move nothing and stop nothing`,
    () =>
      Effect.gen(function*() {
        const chance = chanceOf(seed)
        const database = yield* tampered
        const { disturb, namespace, reset, rowOf, storageIn, write } = database
        const other = `${namespace}:other`
        const tenant = `${namespace}/acme`
        const acme = Effect.provideService(storageIn(namespace), CurrentTenant, "acme")
        const places = [
          { name: namespace, storage: yield* storageIn(namespace) },
          { name: other, storage: yield* storageIn(other) },
          { name: tenant, storage: yield* acme }
        ] as const
        for (const { name, storage } of places) {
          for (const id of ids) yield* storage.save(yield* credentialOf(name, id))
        }
        const originals = new Map<string, Row>()
        for (const { name } of places) {
          for (const id of ids) originals.set(`${name} ${id}`, yield* rowOf(name, id))
        }
        const rows = () => chance.of([...originals.values()] as [Row, ...ReadonlyArray<Row>])
        const stores = new Map<string, CredentialStore["Service"]>()
        for (const { name, storage } of places) stores.set(name, yield* storeOver(storage))

        /** Nothing dies or hangs, and no error says what nobody with the key wrote. */
        const surviving = <A, E extends Actionable & Error>(where: string, use: Effect.Effect<A, E>) =>
          Effect.gen(function*() {
            const exit = yield* Effect.exit(Effect.timeout(use, "60 seconds"))
            assert.isFalse(Exit.hasDies(exit), `${where}: ${String(exit)}`)
            const error = Option.getOrUndefined(Exit.findErrorOption(exit))
            if (error !== undefined && "remedy" in error) {
              for (const text of [error.message, error.remedy, shownOf(error)]) assertShown(text, where)
            } else assert.isUndefined(error, where)
            return Exit.isSuccess(exit) ? Option.some(exit.value) : Option.none()
          })
        const assertOwn = (token: string | undefined, place: string, id: string) => {
          if (token !== undefined) assert.strictEqual(token, `token of ${id} in ${place}`)
        }

        /** The same, and the answer does not say so either. */
        const showing = <A, E extends Actionable & Error>(where: string, use: Effect.Effect<A, E>) =>
          Effect.map(surviving(where, use), (answer) => {
            const shown = shownOf(Option.getOrUndefined(answer))
            assertDocumentShowable(shown, where)
            assert.notMatch(shown, /evil/i, where)
          })

        for (let edit = 0; edit < edits; edit++) {
          const { name: place, storage } = chance.of(places)
          const id = chance.of(ids)
          const where = `edit ${edit}, ${id} in ${place}`
          const own = originals.get(`${place} ${id}`) ?? assert.fail()
          yield* chance.of([
            write(place, id, own),
            write(place, id, rows()),
            write(place, id, { document: rows().document }),
            write(place, id, { state: rows().state }),
            write(place, id, { state: forgedState(chance, id) }),
            write(place, id, { state: cut(own.state, chance) }),
            write(place, id, { document: cut(own.document, chance) }),
            write(place, id, { generation: chance.of(numbers) }),
            write(place, id, { [chance.of(["document", "state"] as const)]: chance.of([hostileText(chance), null]) }),
            disturb(place, id, chance)
          ])
          const loaded = yield* surviving(where, storage.load(id))
          assertOwn(Option.isSome(loaded) ? valueOf(loaded.value) : undefined, place, id)
          if (edit % 5 === 0) yield* surviving(where, storage.loadState(id))
          if (edit % 20 !== 19) continue
          const store = stores.get(place) ?? assert.fail()
          const token = yield* surviving(where, store.token(id))
          assertOwn(Option.getOrUndefined(Option.map(token, Redacted.value)), place, id)
          yield* showing(`list, ${where}`, store.list)
          yield* showing(`explanation, ${where}`, store.explain(id))
          yield* surviving(where, store.token("google"))
          yield* surviving(where, store.validate(id))
          if (edit % 100 === 99) yield* surviving(where, store.save(yield* credentialOf(place, id)))
        }

        // it works as before once the edits are gone
        yield* reset
        for (const { name, storage } of places) {
          const seen = yield* changesOf(storage)
          const writer = name === tenant ? yield* acme : yield* storageIn(name)
          const save = Effect.flatMap(credentialOf(name, "hubspot"), (credential) => writer.save(credential))
          yield* Effect.retry(save, { times: 20, schedule: Schedule.spaced("100 millis") })
          assertOwn(valueOf(yield* storage.load("hubspot")), name, "hubspot")
          // the count began again: a change may have a number that somebody had written
          yield* Effect.raceFirst(
            until(() => seen.some(({ id }) => id === "hubspot"), "60 seconds"),
            Effect.forever(Effect.delay(save, "1 second"))
          )
        }
      }),
    600_000
  )
}
