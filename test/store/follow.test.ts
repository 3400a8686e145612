import { assert, describe, it } from "@effect/vitest"
import { Credential, type CredentialEvent, CredentialStore, TestCredentials } from "aden-credentials"
import { Cause, Context, DateTime, Duration, Effect, Exit, Fiber, Layer, Option, Redacted, Scope, Stream } from "effect"
import { TestClock } from "effect/testing"

const hubspot = (lifetime?: Duration.Input) =>
  Credential.fromAccessToken({
    id: "hubspot",
    accessToken: Redacted.make("token"),
    expiresAt: lifetime === undefined ? undefined : DateTime.addDuration(DateTime.makeUnsafe(0), lifetime)
  })

const slack = Credential.fromAccessToken({ id: "slack", accessToken: Redacted.make("xoxb") })
const brave = Credential.fromApiKey({ id: "brave", apiKey: Redacted.make("key") })

const token = (ref: string) => Effect.flatMap(CredentialStore, (store) => Effect.map(store.token(ref), Redacted.value))

const events = Effect.gen(function*() {
  const store = yield* CredentialStore
  const seen: Array<CredentialEvent> = []
  yield* Effect.forkScoped(Stream.runForEach(store.changes, (event) => Effect.sync(() => seen.push(event))), {
    startImmediately: true
  })
  return seen
})

describe("CredentialStore.token with minTimeLeft", () => {
  it.effect("enough time left: the current token", () =>
    Effect.gen(function*() {
      const store = yield* CredentialStore
      const test = yield* TestCredentials
      assert.strictEqual(Redacted.value(yield* store.token("hubspot", { minTimeLeft: "20 minutes" })), "token")
      assert.strictEqual(yield* test.requests("hubspot"), 0)
    }).pipe(Effect.provide(TestCredentials.layer([hubspot("1 hour")]))))

  it.effect("too little left: renewed once for all who ask", () =>
    Effect.gen(function*() {
      const store = yield* CredentialStore
      const test = yield* TestCredentials
      yield* TestClock.adjust("50 minutes")
      const all = yield* Effect.forEach(
        Array.from({ length: 100 }),
        () => Effect.map(store.token("hubspot", { minTimeLeft: "20 minutes" }), Redacted.value),
        { concurrency: "unbounded" }
      )
      assert.deepStrictEqual(new Set(all), new Set(["token.1"]))
      assert.strictEqual(yield* test.requests("hubspot"), 1)
    }).pipe(Effect.provide(TestCredentials.layer([hubspot("1 hour")]))))

  it.effect("Aden answers again one that lasts too short: a typed error, no loop", () =>
    Effect.gen(function*() {
      const store = yield* CredentialStore
      const test = yield* TestCredentials
      for (let i = 0; i < 10; i++) {
        const error = yield* Effect.flip(store.token("hubspot", { minTimeLeft: "20 minutes" }))
        assert.strictEqual(error._tag, "InsufficientTimeLeft")
      }
      assert.strictEqual(yield* test.requests("hubspot"), 1)
    }).pipe(Effect.provide(TestCredentials.layer([hubspot("10 minutes")]))))

  it.effect("nothing stored, and Aden has one that lasts too short: renewed once for all who ask", () =>
    Effect.gen(function*() {
      const store = yield* CredentialStore
      const test = yield* TestCredentials
      yield* store.delete("hubspot")
      yield* TestClock.adjust("50 minutes")
      const all = yield* Effect.forEach(
        Array.from({ length: 10 }),
        () => Effect.map(store.token("hubspot", { minTimeLeft: "20 minutes" }), Redacted.value),
        { concurrency: "unbounded" }
      )
      assert.deepStrictEqual(new Set(all), new Set(["token.1"]))
      assert.strictEqual(yield* test.requests("hubspot"), 2)
    }).pipe(Effect.provide(TestCredentials.layer([hubspot("1 hour")]))))

  it.effect("nothing stored, and none of Aden's lasts long enough: a typed error, no loop", () =>
    Effect.gen(function*() {
      const store = yield* CredentialStore
      const test = yield* TestCredentials
      yield* store.delete("hubspot")
      for (let i = 0; i < 10; i++) {
        const error = yield* Effect.flip(store.token("hubspot", { minTimeLeft: "20 minutes" }))
        assert.strictEqual(error._tag, "InsufficientTimeLeft")
      }
      assert.strictEqual(yield* test.requests("hubspot"), 2)
    }).pipe(Effect.provide(TestCredentials.layer([hubspot("10 minutes")]))))

  it.effect("a token that does not expire lasts long enough for any minTimeLeft", () =>
    Effect.gen(function*() {
      const store = yield* CredentialStore
      assert.strictEqual(Redacted.value(yield* store.token("slack", { minTimeLeft: "1000 days" })), "xoxb")
    }).pipe(Effect.provide(TestCredentials.layer([slack]))))
})

describe("CredentialStore: the scope closes as a read begins", () => {
  it.effect("the read ends with it", () =>
    Effect.gen(function*() {
      const scope = yield* Scope.make()
      const context = yield* Layer.buildWithScope(TestCredentials.layer([hubspot("1 hour")]), scope)
      const store = Context.get(context, CredentialStore)
      const reading = yield* Effect.forkChild(store.token("nothing"), { startImmediately: true })
      yield* Scope.close(scope, Exit.void)
      yield* TestClock.adjust(1)
      assert.isDefined(reading.pollUnsafe())
    }))
})

describe("CredentialStore.tokens", () => {
  it.effect("emits the token now and each new one, renewed because it is followed", () =>
    Effect.gen(function*() {
      const store = yield* CredentialStore
      const fiber = yield* Effect.forkChild(Stream.runCollect(Stream.take(store.tokens("hubspot"), 3)), {
        startImmediately: true
      })
      for (let minute = 0; minute < 180; minute++) yield* TestClock.adjust("1 minute")
      const tokens = yield* Fiber.join(fiber)
      assert.deepStrictEqual(tokens.map(Redacted.value), ["token", "token.1", "token.2"])
    }).pipe(Effect.provide(TestCredentials.layer([hubspot("1 hour")]))))

  it.effect("emits at once what the program saves, and what is renewed because it was invalidated", () =>
    Effect.gen(function*() {
      const store = yield* CredentialStore
      const seen: Array<string> = []
      yield* Effect.forEach(
        ["hubspot", "brave"],
        (ref) =>
          Stream.runForEach(store.tokens(ref), (token) => Effect.sync(() => seen.push(Redacted.value(token)))).pipe(
            Effect.forkScoped({ startImmediately: true })
          )
      )
      yield* TestClock.adjust(1)
      yield* store.save(Credential.fromApiKey({ id: "brave", apiKey: Redacted.make("another key") }))
      yield* store.invalidate("hubspot")
      yield* TestClock.adjust(1)
      assert.deepStrictEqual(seen, ["token", "key", "another key", "token.1"])
    }).pipe(Effect.provide(TestCredentials.layer([hubspot("1 hour"), brave]))))

  it.effect("what is not read or followed is not renewed", () =>
    Effect.gen(function*() {
      const test = yield* TestCredentials
      yield* TestClock.adjust("10 days")
      assert.strictEqual(yield* test.requests("hubspot"), 0)
    }).pipe(Effect.provide(TestCredentials.layer([hubspot("1 hour")]))))

  it.effect("ends with the error of a read", () =>
    Effect.gen(function*() {
      const store = yield* CredentialStore
      const error = yield* Effect.flip(Stream.runDrain(store.tokens("nothing")))
      assert.strictEqual(error._tag, "CredentialNotFound")
    }).pipe(Effect.provide(TestCredentials.layer([hubspot()]))))
})

describe("CredentialStore.require", () => {
  it.effect("fails once with everything that is missing or blocked, and the URLs", () =>
    Effect.gen(function*() {
      const store = yield* CredentialStore
      const test = yield* TestCredentials
      yield* test.revoke("slack", { reauthorizationUrl: "https://aden.example.com/connect/slack" })
      const error = yield* Effect.flip(store.require(["hubspot", "slack", "nothing", "brave"]))
      assert.deepStrictEqual(error.problems.map((problem) => [problem.ref, problem.error._tag]), [
        ["slack", "ReauthRequired"],
        ["nothing", "CredentialNotFound"]
      ])
      assert.include(error.message, "https://aden.example.com/connect/slack")
      assert.include(error.message, "nothing")
    }).pipe(Effect.provide(TestCredentials.layer([hubspot(), slack, brave]))))

  it.effect("passes when all can be used", () =>
    Effect.gen(function*() {
      const store = yield* CredentialStore
      yield* store.require(["hubspot", "slack", "brave"])
      yield* store.require([])
    }).pipe(Effect.provide(TestCredentials.layer([hubspot(), slack, brave]))))
})

describe("CredentialStore.awaitReauthorization", () => {
  it.effect("ends when the integration is connected again; 50 waiters cause one poll and one event", () =>
    Effect.gen(function*() {
      const store = yield* CredentialStore
      const test = yield* TestCredentials
      const seen = yield* events
      yield* test.revoke("slack", { reauthorizationUrl: "https://aden.example.com/connect/slack" })
      const before = yield* test.requests("slack")
      const waiters = yield* Effect.forEach(
        Array.from({ length: 50 }),
        () => Effect.forkChild(store.awaitReauthorization("slack", { poll: "5 seconds" }), { startImmediately: true })
      )
      yield* TestClock.adjust("16 seconds")
      assert.strictEqual(yield* test.requests("slack"), before + 3)
      yield* test.reconnect("slack")
      yield* TestClock.adjust("5 seconds")
      for (const waiter of waiters) assert.strictEqual((yield* Fiber.join(waiter)).id, "slack")
      assert.deepStrictEqual(seen.map(({ _tag }) => _tag), ["ReauthorizationRequired", "Reconnected"])
      assert.strictEqual(yield* token("slack"), "xoxb")
    }).pipe(Effect.provide(TestCredentials.layer([slack]))))

  it.effect("ends at once when something else finds it connected", () =>
    Effect.gen(function*() {
      const store = yield* CredentialStore
      const test = yield* TestCredentials
      yield* test.revoke("slack")
      const waiter = yield* Effect.forkChild(
        store.awaitReauthorization("slack", { poll: "1 hour", timeout: "1 day" }),
        {
          startImmediately: true
        }
      )
      yield* test.reconnect("slack")
      yield* store.sync
      assert.strictEqual((yield* Fiber.join(waiter)).id, "slack")
    }).pipe(Effect.provide(TestCredentials.layer([slack]))))

  it.effect("who waits with a shorter poll is not kept waiting by another's longer one", () =>
    Effect.gen(function*() {
      const store = yield* CredentialStore
      const test = yield* TestCredentials
      yield* test.revoke("slack")
      const patient = yield* Effect.forkChild(
        store.awaitReauthorization("slack", { poll: "1 hour", timeout: "1 day" }),
        { startImmediately: true }
      )
      const quick = yield* Effect.forkChild(store.awaitReauthorization("slack", { poll: "10 seconds" }), {
        startImmediately: true
      })
      yield* test.reconnect("slack")
      yield* TestClock.adjust("10 seconds")
      assert.strictEqual((yield* Fiber.join(quick)).id, "slack")
      assert.strictEqual((yield* Fiber.join(patient)).id, "slack")
    }).pipe(Effect.provide(TestCredentials.layer([slack]))))

  it.effect("it is not connected: a typed error at the timeout, with the URL", () =>
    Effect.gen(function*() {
      const store = yield* CredentialStore
      const test = yield* TestCredentials
      yield* test.revoke("slack", { reauthorizationUrl: "https://aden.example.com/connect/slack" })
      const waiter = yield* Effect.forkChild(Effect.flip(store.awaitReauthorization("slack")), {
        startImmediately: true
      })
      yield* TestClock.adjust("599 seconds")
      assert.isTrue(Option.isNone(Option.fromUndefinedOr(waiter.pollUnsafe())))
      yield* TestClock.adjust("1 second")
      const error = yield* Fiber.join(waiter)
      assert.strictEqual(error._tag, "ReauthorizationTimeout")
      assert.include(error.message, "https://aden.example.com/connect/slack")
    }).pipe(Effect.provide(TestCredentials.layer([slack]))))

  it.effect("the integration is removed: CredentialNotFound", () =>
    Effect.gen(function*() {
      const store = yield* CredentialStore
      const test = yield* TestCredentials
      yield* test.revoke("slack")
      const waiter = yield* Effect.forkChild(Effect.flip(store.awaitReauthorization("slack")), {
        startImmediately: true
      })
      yield* test.remove("slack")
      yield* TestClock.adjust("6 seconds")
      assert.strictEqual((yield* Fiber.join(waiter))._tag, "CredentialNotFound")
    }).pipe(Effect.provide(TestCredentials.layer([slack]))))

  it.effect("the integration is removed, and a sync finds that out: CredentialNotFound, and one event", () =>
    Effect.gen(function*() {
      const store = yield* CredentialStore
      const test = yield* TestCredentials
      const seen = yield* events
      yield* test.revoke("slack")
      const waiter = yield* Effect.forkChild(
        Effect.flip(store.awaitReauthorization("slack", { poll: "1 minute" })),
        { startImmediately: true }
      )
      yield* test.remove("slack")
      yield* store.sync
      yield* TestClock.adjust("1 second")
      assert.strictEqual((yield* Fiber.join(waiter))._tag, "CredentialNotFound")
      assert.deepStrictEqual(seen.map(({ _tag }) => _tag), ["ReauthorizationRequired", "Removed"])
    }).pipe(Effect.provide(TestCredentials.layer([slack, brave]))))

  it.effect("the program deletes it: CredentialNotFound at once", () =>
    Effect.gen(function*() {
      const store = yield* CredentialStore
      const test = yield* TestCredentials
      yield* test.revoke("slack")
      const waiter = yield* Effect.forkChild(Effect.flip(store.awaitReauthorization("slack")), {
        startImmediately: true
      })
      yield* TestClock.adjust("1 second")
      yield* store.delete("slack")
      assert.strictEqual((yield* Fiber.join(waiter))._tag, "CredentialNotFound")
    }).pipe(Effect.provide(TestCredentials.layer([slack]))))

  it.effect.each<Duration.Input>([0, -1, Number.NaN, "0 seconds", Duration.infinity])(
    "a poll of %o is refused, by its name: it is a bug, which would ask without end",
    (poll) =>
      Effect.gen(function*() {
        const store = yield* CredentialStore
        const test = yield* TestCredentials
        yield* test.revoke("slack")
        const exit = yield* Effect.exit(store.awaitReauthorization("slack", { poll }))
        assert.include(
          Cause.pretty(Exit.isFailure(exit) ? exit.cause : Cause.empty),
          "poll is not a finite time above zero"
        )
        assert.isTrue(Exit.isFailure(exit) && Cause.hasDies(exit.cause))
      }).pipe(Effect.provide(TestCredentials.layer([slack])))
  )

  it.effect("what is not blocked is answered at once", () =>
    Effect.gen(function*() {
      const store = yield* CredentialStore
      assert.strictEqual((yield* store.awaitReauthorization("slack")).id, "slack")
    }).pipe(Effect.provide(TestCredentials.layer([slack]))))
})

describe("TestCredentials.layer", () => {
  const layer = TestCredentials.layer([hubspot("1 hour"), slack, brave])

  it.effect("expire, revoke, reconnect, rateLimit, takeDown, bringUp, remove", () =>
    Effect.gen(function*() {
      const store = yield* CredentialStore
      const test = yield* TestCredentials
      assert.strictEqual(yield* token("hubspot"), "token")
      yield* test.expire("hubspot")
      assert.strictEqual(yield* token("hubspot"), "token.1")
      yield* test.rateLimit("hubspot", "1 minute")
      assert.strictEqual(yield* token("hubspot"), "token.1")
      yield* test.expire("hubspot")
      assert.strictEqual((yield* Effect.flip(store.token("hubspot")))._tag, "RateLimited")
      yield* TestClock.adjust("61 seconds")
      yield* test.takeDown()
      assert.strictEqual((yield* Effect.flip(store.token("hubspot")))._tag, "AdenUnavailable")
      yield* test.bringUp()
      assert.strictEqual(yield* token("hubspot"), "token.2")
      yield* test.takeDown("hubspot")
      yield* test.expire("hubspot")
      assert.strictEqual((yield* Effect.flip(store.token("hubspot")))._tag, "AdenUnavailable")
      assert.strictEqual(yield* token("slack"), "xoxb")
      yield* test.bringUp("hubspot")
      yield* test.revoke("hubspot")
      assert.strictEqual((yield* Effect.flip(store.token("hubspot")))._tag, "ReauthRequired")
      yield* test.reconnect("hubspot")
      yield* TestClock.adjust("31 seconds")
      yield* token("hubspot")
      yield* test.remove("hubspot")
      yield* TestClock.adjust("2 hours")
      assert.strictEqual((yield* Effect.flip(store.token("hubspot")))._tag, "CredentialNotFound")
      assert.strictEqual((yield* Effect.flip(test.expire("hubspot")))._tag, "CredentialNotFound")
    }).pipe(Effect.provide(layer)))

  it.effect("a ref that means several, or what Aden does not have, changes none", () =>
    Effect.gen(function*() {
      const test = yield* TestCredentials
      for (const ref of ["google", "nothing", "brave", ""]) {
        assert.strictEqual((yield* Effect.flip(test.expire(ref)))._tag, "CredentialNotFound", ref)
      }
      yield* test.expire("google:home")
      assert.strictEqual(yield* token("g1"), "work")
      assert.strictEqual(yield* token("g2"), "home.1")
    }).pipe(Effect.provide(TestCredentials.layer([
      ...["work", "home"].map((alias, index) =>
        Credential.fromAccessToken({
          id: `g${index + 1}`,
          accessToken: Redacted.make(alias),
          provider: "google",
          alias
        })
      ),
      brave
    ]))))

  it.effect("a layer value gives each test a world of its own", () =>
    Effect.gen(function*() {
      assert.strictEqual(yield* Effect.provide(token("hubspot"), Layer.fresh(layer)), "token")
    }))
})
