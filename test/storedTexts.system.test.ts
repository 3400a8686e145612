/** What is stored, and what a provider of the program's own answers, is shown as an answer of Aden's would be. */
import { assert, describe, it } from "@effect/vitest"
import {
  type Actionable,
  AdenCachedStorage,
  AdenClient,
  AdenConnectionFailed,
  AdenSyncProvider,
  AdenUnavailable,
  Credential,
  CredentialDecryptionFailed,
  CredentialKey,
  type CredentialProvider,
  CredentialProviders,
  CredentialState,
  CredentialStorage,
  CredentialStorageError,
  CredentialStore,
  MemoryStorage,
  type ProviderAccount,
  ReauthRequired
} from "aden-credentials"
import { Context, DateTime, Duration, Effect, Fiber, Layer, Logger, Redacted, References, Stream } from "effect"
import { Redis } from "effect/persistence"
import { TestClock } from "effect/testing"
import * as fs from "node:fs"
import * as path from "node:path"
import { EncryptedFileStorage } from "../src/storage/files/EncryptedFileStorage.ts"
import { AwaitRefresh } from "../src/store/RefreshPolicy.ts"
import { isShown } from "../src/util/sanitize.ts"
import { assertDocumentShowable, assertInvitesNowhere, assertShowable, hostileTexts } from "./fixtures/hostileTexts.ts"
import { describeWith, postgres, redis } from "./fixtures/realServers.ts"
import * as inPostgres from "./storage/postgres/postgresSchema.ts"
import * as inRedis from "./storage/redis/redisNamespace.ts"
import { key, NodeFiles, temporaryDirectory } from "./storage/temporaryStorage.ts"

type Storage = CredentialStorage["Service"]

/** A state record, as text has it. */
interface State {
  readonly generation: number
  readonly account?: { readonly provider: string; readonly alias?: string }
  readonly blockedSince?: string
  readonly reauthorizationUrl?: string
  readonly lastError?: string
}

/** A storage, and what a program without its key can change past it. */
interface Place {
  readonly storage: Storage
  readonly writeState: (id: string, state: State) => Effect.Effect<void>
  readonly damage: (id: string) => Effect.Effect<void>
}

const directory = Effect.gen(function*() {
  const root = yield* temporaryDirectory
  const build = (keys: ReadonlyArray<Redacted.Redacted<string>>) =>
    Effect.map(
      Layer.build(Layer.fresh(EncryptedFileStorage.layer({ directory: root, keys }).pipe(Layer.provide(NodeFiles)))),
      Context.get(CredentialStorage)
    )
  const write = (folder: string, name: string, text: string) =>
    Effect.sync(() => fs.writeFileSync(path.join(root, folder, name), text, { mode: 0o600 }))
  const place: Place = {
    storage: yield* build([key]),
    writeState: (id, state) => write("state", `${id}.json`, JSON.stringify(state)),
    damage: (id) => write("credentials", `${id}.enc`, "no token")
  }
  return place
})

const redisNamespace = Effect.gen(function*() {
  const connection = yield* inRedis.connected()
  const namespace = yield* Effect.provideService(inRedis.newNamespace, Redis.Redis, connection)
  const write = (id: string, field: string, text: string) =>
    Effect.orDie(Effect.asVoid(connection.send("HSET", `{${namespace}}:entry:${id}`, field, text)))
  const place: Place = {
    storage: yield* inRedis.storageOver(connection, { namespace }),
    writeState: (id, state) => write(id, "state", JSON.stringify(state)),
    damage: (id) => write(id, "document", "no token")
  }
  return place
})

const postgresSchema = Effect.gen(function*() {
  const { sql, storage } = yield* inPostgres.place
  const place: Place = {
    storage,
    writeState: (id, state) =>
      Effect.orDie(
        Effect.asVoid(sql`update aden_credentials set state = ${JSON.stringify(state)} where id = ${id}`)
      ),
    damage: (id) => Effect.orDie(Effect.asVoid(sql`update aden_credentials set document = 'no token' where id = ${id}`))
  }
  return place
})

/** A storage of the program's own, which hands on what it is given: a state need not even be of the class. */
const ownStorage = Effect.gen(function*() {
  const memory = yield* Effect.map(Layer.build(Layer.fresh(MemoryStorage.layer())), Context.get(CredentialStorage))
  const states = new Map<string, State>()
  const damaged = new Set<string>()
  const opened = <A, E>(id: string, read: Effect.Effect<A, E>) =>
    Effect.suspend((): Effect.Effect<A, E | CredentialDecryptionFailed> =>
      damaged.has(id)
        ? Effect.fail(new CredentialDecryptionFailed({ id, location: "memory", detail: "no token" }))
        : read
    )
  const written = (id: string, state: CredentialState): CredentialState => {
    const { blockedSince, ...others } = states.get(id) ?? { blockedSince: undefined }
    const since = blockedSince === undefined ? undefined : DateTime.makeUnsafe(blockedSince)
    return { ...state, ...others, blockedSince: since ?? state.blockedSince }
  }
  const place: Place = {
    storage: CredentialStorage.of({
      ...memory,
      read: (id) =>
        opened(
          id,
          Effect.map(memory.read(id), ({ credential, state }) => ({ credential, state: written(id, state) }))
        ),
      load: (id) => opened(id, memory.load(id)),
      loadState: (id) => Effect.map(memory.loadState(id), (state) => written(id, state))
    }),
    writeState: (id, state) => Effect.sync(() => void states.set(id, state)),
    damage: (id) => Effect.sync(() => void damaged.add(id))
  }
  return place
})

const here = { url: "", isThere: true, why: "" }

const places = [
  { name: "files", server: here, place: directory },
  { name: "Redis", server: redis, place: redisNamespace },
  { name: "Postgres", server: postgres, place: postgresSchema },
  { name: "a storage of the program's own", server: here, place: ownStorage }
] as const

/** The store of a program that starts, with a provider that says of each credential that a person has to act. */
const started = (storage: Storage, provider: CredentialProvider = refusing()) =>
  Effect.map(
    Layer.build(Layer.fresh(
      CredentialStore.layer().pipe(
        Layer.provide(Layer.succeed(CredentialProviders, { all: [provider] })),
        Layer.provide(Layer.succeed(CredentialStorage, storage))
      )
    )),
    Context.get(CredentialStore)
  )

/** A provider of the program's own. It says `url` of where a person authorizes again, and lists these. It is down for `down`. */
const refusing = (
  options: { readonly url?: string; readonly accounts?: ReadonlyArray<ProviderAccount> } = {}
): CredentialProvider => {
  const { accounts = [], url } = options
  const refused = (id: string) =>
    Effect.fail(
      id === "down"
        ? new AdenUnavailable({ id, reason: new AdenConnectionFailed({ detail: "ECONNREFUSED" }) })
        : new ReauthRequired({ id, reauthorizationUrl: url, detail: url })
    )
  return {
    id: "aden_sync",
    refreshBuffer: Duration.minutes(5),
    clockOffset: Effect.succeed(0),
    canHandle: ({ providerId }) => providerId === "aden_sync",
    refresh: ({ id }) => refused(id),
    fetch: refused,
    validate: () =>
      Effect.succeed({
        valid: false,
        reason: url,
        expiresAt: undefined,
        requiresReauthorization: true,
        reauthorizationUrl: url
      }),
    list: Effect.succeed({ accounts, malformed: [{ id: url, detail: url ?? "" }] })
  }
}

/** The same, but it renews. */
const renewing: CredentialProvider = {
  ...refusing(),
  refresh: (held) => Effect.map(credential(held.id, {}, "token-renewed"), (answer) => held.renewedBy(answer)),
  fetch: (id) => Effect.asSome(credential(id, {}, "token-renewed")),
  validate: () =>
    Effect.succeed({
      valid: true,
      reason: undefined,
      expiresAt: undefined,
      requiresReauthorization: false,
      reauthorizationUrl: undefined
    })
}

const credential = (
  id: string,
  names: { readonly provider?: string; readonly alias?: string } = {},
  token = "token-of-someone"
) =>
  Effect.map(DateTime.now, (now) =>
    new Credential({
      ...Credential.fromAccessToken({
        id,
        accessToken: Redacted.make(token),
        expiresAt: DateTime.add(now, { hours: 1 }),
        ...names
      }),
      providerId: "aden_sync",
      lastRefreshed: now
    }))

interface Output {
  readonly where: string
  readonly text: string
  readonly isDocument: boolean
}

/** What a program shows of a credential. */
const namesOf = ({ alias, identity, integrationType, scopes }: Credential) => ({
  alias,
  identity,
  label: identity.label,
  integrationType,
  scopes
})

/** All that the store says of what these refs name, in errors, answers, events and logs. */
const outputsOf = Effect.fnUntraced(function*(
  store: CredentialStore["Service"],
  refs: ReadonlyArray<string>,
  providers: ReadonlyArray<string>
) {
  const outputs: Array<Output> = []
  const say = (where: string, text: string) => outputs.push({ where, text, isDocument: false })
  const document = (where: string, value: unknown) =>
    outputs.push({ where, text: JSON.stringify(value) ?? "null", isDocument: true })
  const taking = <A, E extends Actionable & Error>(where: string, effect: Effect.Effect<A, E>) =>
    Effect.match(effect, {
      onSuccess: (value) => document(where, value),
      onFailure: (error) => {
        say(`${where}, message`, error.message)
        say(`${where}, remedy`, error.remedy)
        say(`${where}, printed`, String(error))
        document(`${where}, error`, error)
      }
    })
  const logger = Logger.make((options) => {
    const { annotations, message } = Logger.formatStructured.log(options)
    document("log", { annotations, message })
  })
  yield* Effect.gen(function*() {
    yield* Effect.forkScoped(
      Stream.runForEach(store.changes, (event) => Effect.sync(() => document("event", event))),
      { startImmediately: true }
    )
    yield* taking("list", store.list)
    for (const provider of providers) yield* taking("accounts", store.accounts(provider))
    for (const ref of refs) {
      const asking = <A, E extends Actionable & Error>(what: string, effect: Effect.Effect<A, E>) =>
        taking(`${what} of ${ref}`, effect)
      yield* asking("explanation", store.explain(ref))
      yield* asking("token", store.token(ref))
      yield* asking("key", store.getKey(ref, "none"))
      yield* asking("requirement", store.require([ref]))
      yield* asking("validation", store.validate(ref))
      yield* asking("awaiting", store.awaitReauthorization(ref, { timeout: "1 millis" }).pipe(Effect.map(namesOf)))
      yield* asking("refresh", store.refresh(ref).pipe(Effect.map(namesOf)))
      yield* asking("later explanation", store.explain(ref))
    }
    yield* taking("sync", store.sync)
    yield* taking("list afterwards", store.list)
  }).pipe(
    Effect.scoped,
    Effect.provide(Logger.layer([logger])),
    Effect.provideService(References.MinimumLogLevel, "All")
  )
  return outputs
})

const assertAll = (outputs: ReadonlyArray<Output>) => {
  for (const { isDocument, text, where } of outputs) {
    if (isDocument) assertDocumentShowable(text, where)
    else assertShowable(text, where)
  }
}

const valueOf = (credential: Credential, name: string): string | undefined => {
  const key = credential.keys.get(name)
  return key === undefined ? undefined : Redacted.value(key.value)
}

const assertUrl = (url: string | undefined, what: string) => {
  assertInvitesNowhere(url ?? "", what)
  assertShowable(url ?? "", what)
}

const blockedSince = Effect.map(DateTime.now, DateTime.formatIso)

for (const { name, place, server } of places) {
  describeWith(server, `What is stored in ${name}`, () => {
    it.live("a state record that was edited by hand sends no one to its URL", () =>
      Effect.gen(function*() {
        const { storage, writeState } = yield* place
        const all = hostileTexts.map(([what, text], index) => ({
          what,
          text,
          blocked: `blocked-${index}`,
          served: `served-${index}`
        }))
        yield* storage.saveMany(
          yield* Effect.forEach(all.flatMap(({ blocked, served }) => [blocked, served]), (id) => credential(id))
        )
        for (const { blocked, served, text } of all) {
          const said = { generation: 1, reauthorizationUrl: text, lastError: text }
          yield* writeState(blocked, { ...said, blockedSince: yield* blockedSince })
          yield* writeState(served, said)
        }
        const store = yield* started(storage)
        const outputs = yield* outputsOf(store, all.flatMap(({ blocked, served }) => [blocked, served]), [])
        assertAll(outputs)
        for (const { text, where } of outputs) assertInvitesNowhere(text, where)
        const isTold = ({ isDocument, text }: Output) => isDocument && text.includes("\"ReauthorizationRequired\"")
        assert.isTrue(outputs.some(isTold), "the event is among them")
        for (const { blocked, text } of all) {
          // a text that is not a state, because it is too long for a file, counts as none
          const isRead = (yield* storage.loadState(blocked)).generation > 0
          if (isRead) assert.strictEqual((yield* Effect.flip(store.token(blocked)))._tag, "ReauthRequired", text)
        }
      }))

    it.live("names are shown cleaned, found as they are, and written back as they were", () =>
      Effect.gen(function*() {
        const { damage, storage, writeState } = yield* place
        const hostile = hostileTexts.filter(([, text]) => !isShown(text))
        const all = hostile.map(([, text], index) => ({
          text: text.slice(0, 2_000),
          provider: `google-${index}`,
          odd: `odd-${index}`,
          strange: `strange-${index}`,
          plain: `plain-${index}`,
          damaged: `damaged-${index}`
        }))
        for (const { damaged, odd, plain, provider, strange, text } of all) {
          const oddly = yield* credential(odd, { provider, alias: text })
          const named = (name: string) => new CredentialKey({ name, value: Redacted.make(text) })
          const failures = yield* storage.saveMany([
            new Credential({
              ...oddly,
              description: text,
              tags: [text],
              keys: new Map([
                ...oddly.keys,
                ...["scope", "_identity_email", "_identity_workspace"].map((name) => [name, named(name)] as const)
              ])
            }),
            yield* credential(strange, { provider: `${text}${strange}`, alias: text }),
            yield* credential(plain, { provider, alias: "plain" }),
            yield* credential(damaged)
          ])
          assert.strictEqual(failures.size, 0)
          yield* writeState(damaged, { generation: 1, account: { provider: `${text}${damaged}`, alias: text } })
          yield* damage(damaged)
        }
        const store = yield* started(storage, renewing)
        const refs = all.flatMap(({ damaged, odd, provider, strange }) => [odd, strange, damaged, provider])
        assertAll(yield* outputsOf(store, refs, all.map(({ provider }) => provider)))

        const again = yield* started(storage, renewing)
        for (const { id, ref, status } of yield* again.list) {
          if (status !== "unreadable") assert.strictEqual((yield* again.explain(ref)).id, id)
        }
        for (const { odd, plain, provider, strange, text } of all) {
          assert.strictEqual((yield* again.get(`${provider}:${text}`)).id, odd)
          assert.strictEqual((yield* again.get(`${text}${strange}`)).id, strange)
          assert.deepStrictEqual((yield* again.accounts(provider)).map(({ id }) => id).toSorted(), [odd, plain])
          assert.strictEqual((yield* again.accounts(`${text}${strange}`)).length, 1)
          const kept = yield* Effect.flatMap(storage.load(odd), Effect.fromOption)
          assert.strictEqual(valueOf(kept, "access_token"), "token-renewed")
          for (const name of ["_alias", "scope", "_identity_email", "_identity_workspace"]) {
            assert.strictEqual(valueOf(kept, name), text)
          }
          assert.deepStrictEqual([kept.description, ...kept.tags], [text, text])
          yield* damage(odd)
        }
        const last = yield* started(storage, renewing)
        for (const { odd, provider, text } of all) {
          const failed = yield* Effect.flip(last.get(`${provider}:${text}`))
          assert(failed._tag === "CredentialDecryptionFailed" && failed.id === odd)
        }
      }))
  })
}

/** Where there is nothing but what is in memory. */
const memory = Effect.map(Layer.build(Layer.fresh(MemoryStorage.layer())), Context.get(CredentialStorage))

describe("What is stored under an id that no person should see as it is", () => {
  it.live("is named by it in answers, which a program asks with, and by what is left of it where people read", () =>
    Effect.gen(function*() {
      const { damage, storage } = yield* ownStorage
      const odd = hostileTexts.filter(([, text]) => !isShown(text)).map(([, text]) => text.slice(0, 2_000))
      yield* storage.saveMany(yield* Effect.forEach(odd, (id) => credential(id, { provider: "google" })))
      yield* damage(odd[0] ?? "")
      const store = yield* started(storage)
      const ids = new Set(odd)
      for (const { id, ref } of yield* store.list) assert.isTrue(ids.has(id) && ref === id)
      const shown = yield* outputsOf(store, [...odd, "google"], [])
      for (const { isDocument, text } of shown) if (!isDocument) assertShowable(text, "what people read")
      assertAll(shown.filter(({ where }) => where === "log"))
      for (const id of odd.slice(1)) assert.strictEqual((yield* store.explain(id)).id, id)
    }))

  it.live("is cleaned where an error says which file it is about", () =>
    Effect.gen(function*() {
      const { damage, storage } = yield* directory
      yield* storage.save(yield* credential("plain"))
      const id = "odd\u001b]52;c;ZXZpbA==\u0007\u202e"
      yield* damage(id)
      const failed = yield* Effect.flip(storage.load(id))
      assert(failed._tag === "CredentialDecryptionFailed")
      assertShowable(failed.location, "location")
      assert.include(failed.location, "odd]52;c;ZXZpbA==.enc")
    }))

  it.effect("is cleaned in what is logged while Aden has no answer", () =>
    Effect.gen(function*() {
      const id = "\u001b]52;c;ZXZpbA==\u0007 \u202e"
      const logged: Array<string> = []
      const logger = Logger.make((options) => {
        const { annotations, message } = Logger.formatStructured.log(options)
        logged.push(JSON.stringify({ annotations, message }))
      })
      const unavailable = Effect.fail(
        new AdenUnavailable({ reason: new AdenConnectionFailed({ detail: "ECONNREFUSED" }) })
      )
      const aDueOne = Effect.gen(function*() {
        const storage = yield* memory
        const state = new CredentialState({ generation: 0, lastConfirmed: yield* DateTime.now })
        yield* storage.save(yield* credential(id), { state })
        yield* TestClock.adjust("58 minutes")
        return storage
      })
      yield* Effect.gen(function*() {
        const down = yield* started(yield* aDueOne, { ...renewing, refresh: () => unavailable })
        yield* down.get(id)
        yield* TestClock.adjust("1 second")

        const slow = { ...renewing, refresh: () => Effect.delay(unavailable, "8 seconds") }
        const asked = yield* started(yield* aDueOne, slow)
        const waits = yield* Effect.forkChild(Effect.provideService(asked.get(id), AwaitRefresh, true))
        for (let second = 0; second < 20; second++) yield* TestClock.adjust("1 second")
        yield* Fiber.join(waits)

        const before = logged.length
        const cached = yield* Layer.build(
          AdenCachedStorage.layer().pipe(
            Layer.provide(AdenSyncProvider.layer()),
            Layer.provide(AdenClient.layerTest({ getCredential: () => unavailable })),
            Layer.provide(Layer.succeed(CredentialStorage, yield* aDueOne))
          )
        )
        yield* Context.get(cached, CredentialStorage).load(id)
        assert.isAbove(logged.length, before)
      }).pipe(Effect.provide(Logger.layer([logger])))
      for (const message of ["did not confirm\"", "did not confirm in time"]) {
        assert.isTrue(logged.some((line) => line.includes(message)), `${message}: ${logged.join("\n")}`)
      }
      for (const line of logged) assertDocumentShowable(line, "log")
    }))
})

describe("What others hand to a store", () => {
  it.live.each(hostileTexts)(
    "the answers of a provider of the program's own are shown, and kept, cleaned: %s",
    ([what, text]) =>
      Effect.gen(function*() {
        const storage = yield* memory
        const account = { provider: "google", alias: text, email: undefined, expiresAt: undefined }
        yield* storage.saveMany([yield* credential("one"), yield* credential("two")])
        const provider = refusing({
          url: text,
          accounts: [
            { ...account, id: "listed", status: "requires_reauth" },
            { ...account, id: "down", status: "active", provider: text }
          ]
        })
        const store = yield* started(storage, provider)
        assertAll(yield* outputsOf(store, ["one", "two", "listed"], ["google"]))

        const again = yield* started(storage, provider)
        for (const asked of [again.get("one"), again.refresh("two"), again.refresh("listed")]) {
          const refused = yield* Effect.flip(asked)
          assert(refused._tag === "ReauthRequired")
          assertUrl(refused.reauthorizationUrl, what)
          assertUrl(refused.message, what)
        }
        assertUrl((yield* again.validate("two")).reauthorizationUrl, what)
        assertUrl((yield* again.explain("two")).reauthorizationUrl, what)
        for (const skipped of (yield* again.sync).skipped) assertUrl(skipped.reauthorizationUrl, what)
        for (const id of ["one", "two", "listed"]) assertUrl((yield* storage.loadState(id)).reauthorizationUrl, what)

        const refusesToValidate = yield* started(storage, {
          ...provider,
          validate: ({ id }) => Effect.andThen(provider.fetch(id), Effect.never)
        })
        const refused = yield* Effect.flip(refusesToValidate.validate("two"))
        assert(refused._tag === "ReauthRequired")
        assertUrl(refused.reauthorizationUrl, what)
      })
  )

  it.live.each(hostileTexts)(
    "what a storage of the program's own fails with: %s",
    ([what, text]) =>
      Effect.gen(function*() {
        const reason = new ReauthRequired({ id: "x", reauthorizationUrl: text })
        const storage = CredentialStorage.of({
          ...(yield* memory),
          read: (id) => Effect.fail(new CredentialStorageError({ id, operation: "read", reason })),
          load: (id) => Effect.fail(new CredentialStorageError({ id, operation: "load", reason }))
        })
        const outputs = yield* outputsOf(yield* started(storage), ["x"], [])
        assertAll(outputs)
        for (const { text, where } of outputs) assertInvitesNowhere(text, `${what}: ${where}`)
      })
  )

  it.live.each(hostileTexts)("what AdenCachedStorage finds remembered: %s", ([what, text]) =>
    Effect.gen(function*() {
      const storage = yield* memory
      const state = new CredentialState({ generation: 0, blockedSince: yield* DateTime.now, reauthorizationUrl: text })
      yield* storage.saveState("x", state)
      const cached = Context.get(
        yield* Layer.build(
          AdenCachedStorage.layer().pipe(
            Layer.provide(AdenSyncProvider.layer()),
            Layer.provide(AdenClient.layerTest({})),
            Layer.provide(Layer.succeed(CredentialStorage, storage))
          )
        ),
        CredentialStorage
      )
      const failed = yield* Effect.flip(cached.load("x"))
      assert(failed._tag === "CredentialStorageError" && failed.reason._tag === "ReauthRequired")
      for (const shown of [failed.message, failed.remedy, failed.reason.reauthorizationUrl]) assertUrl(shown, what)
    }))
})
