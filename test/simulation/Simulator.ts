/**
 * Runs a program against the real store, provider and client, on virtual time, with the scripted Aden in the place of the
 * network. Everything is deterministic: the same program takes the same course.
 */
import {
  Cause,
  Clock,
  Context,
  DateTime,
  Duration,
  Effect,
  Exit,
  Fiber,
  identity,
  Layer,
  Metric,
  Option,
  Predicate,
  Random,
  Redacted,
  References,
  Schedule,
  Scheduler,
  Scope,
  Stream
} from "effect"
import { HttpClient } from "effect/http"
import { CredentialHttpClient } from "../../src/http/CredentialHttpClient.ts"
import { accountOf, Credential, CredentialKey } from "../../src/model/Credential.ts"
import { AdenClient } from "../../src/providers/aden/AdenClient.ts"
import { AdenSyncProvider } from "../../src/providers/aden/AdenSyncProvider.ts"
import type { CredentialProvider } from "../../src/providers/CredentialProvider.ts"
import { CredentialProviders } from "../../src/providers/CredentialProvider.ts"
import { CredentialStorage } from "../../src/storage/CredentialStorage.ts"
import { FallbackStorage } from "../../src/storage/FallbackStorage.ts"
import { MemoryStorage } from "../../src/storage/MemoryStorage.ts"
import { CredentialStore } from "../../src/store/CredentialStore.ts"
import { confirmWithin, renewInTime } from "../../src/store/RefreshPolicy.ts"
import type { RefreshPolicy } from "../../src/store/RefreshPolicy.ts"
import { makeKeyedLock } from "../../src/util/KeyedLock.ts"
import type { Plant } from "./Faults.ts"
import { Invariants } from "./Invariants.ts"
import { Ledger } from "./Ledger.ts"
import type { Call, CallKind, CallResult, Operation, OperationResult, Violation } from "./Observations.ts"
import { Prng } from "./Prng.ts"
import type { Config, IntegrationConfig, Mortal, Program, ReadMethod, Server, Step } from "./Program.ts"
import { describe } from "./Program.ts"
import { accountAt, apiKeyOf, ScriptedAden } from "./ScriptedAden.ts"
import type { Issued } from "./ScriptedAden.ts"
import { planted, UnreliableStorage } from "./UnreliableStorage.ts"
import { VirtualTime } from "./VirtualTime.ts"

export interface Run {
  readonly violation: Violation | undefined
  readonly requests: number
  readonly operations: number
  /** What happened, line by line, when it was asked for. */
  readonly trace: ReadonlyArray<string>
}

/** Runs a program to its end, or to the first thing that is wrong. */
export const run = (
  program: Program,
  options: { readonly isTraced?: boolean | undefined; readonly plant?: Plant | undefined } = {}
): Effect.Effect<Run> =>
  // counts its operations from zero: after how many the fiber lets others run decides who is first at one point of time
  Effect.andThen(
    Effect.yieldNow,
    Effect.suspend(() => {
      const time = new VirtualTime(epoch)
      return simulate(program, time, options).pipe(
        Effect.provideService(Scheduler.Scheduler, time),
        Effect.provideService(References.MinimumLogLevel, "None"),
        Effect.provideService(References.TracerEnabled, false),
        Random.withSeed(program.seed)
      )
    })
  )

// ---------------------------------------------------------------------------------------------------------------------
// The course of a run
// ---------------------------------------------------------------------------------------------------------------------

/** When every run begins, in ms. */
const epoch = Date.UTC(2026, 0, 1)

const simulate = Effect.fnUntraced(function*(
  program: Program,
  time: VirtualTime,
  { isTraced = false, plant: planting = {} }: {
    readonly isTraced?: boolean | undefined
    readonly plant?: Plant | undefined
  }
) {
  const plant: Plant = { ...planting, ...planting.each?.() }
  const { config, seed, steps } = program
  const fibers = new FiberCount()
  const aden = new ScriptedAden({
    ...config,
    tenants: config.wide === undefined ? ["acme", "globex"] : ["acme", "globex", "acme2", "globex2"],
    seed,
    endsOldTokens: config.wide?.endsOldTokens
  })
  const ledger = new Ledger({
    config,
    issued: aden.issued,
    now: () => time.currentTimeMillisUnsafe(),
    timer: () => time.timer,
    isTraced
  })
  const storages: Array<UnreliableStorage> = []
  if (config.wide !== undefined) {
    ledger.invariants = new Invariants({
      config,
      ledger,
      aden,
      storages,
      now: () => time.currentTimeMillisUnsafe(),
      timer: () => time.timer
    })
  }
  const world = new World({ config, aden, ledger, time, plant, storages })
  yield* Effect.gen(function*() {
    yield* world.open
    for (const [index, step] of steps.entries()) {
      ledger.step = index + 1
      ledger.trace?.push(`${index + 1}. ${describe(step)}`)
      yield* world.take(step)
      yield* world.settle
      ledger.checkAtRest()
      if (ledger.violation !== undefined) break
    }
    if (ledger.violation === undefined) {
      ledger.trace?.push("Aden is well again")
      yield* world.recover
    }
    ledger.trace?.push("the end")
    yield* world.close
    if (ledger.violation === undefined && (fibers.live !== 0 || time.sleeps !== 0 || aden.inFlight.size !== 0)) {
      ledger.violate(
        "nothing is left behind",
        `${fibers.live} fibers, ${time.sleeps} sleeps, ${aden.inFlight.size} requests`
      )
    }
  }).pipe(
    Effect.provideService(Clock.Clock, plant.clock?.(time) ?? time),
    Effect.provideService(Metric.FiberRuntimeMetrics, fibers)
  )
  const result: Run = {
    violation: ledger.violation,
    requests: aden.exchanges,
    operations: ledger.operations,
    trace: ledger.trace ?? []
  }
  return result
})

interface Process {
  readonly store: CredentialStore["Service"]
  readonly scope: Scope.Closeable
  /** The clients that carry the credential of a ref to an API. */
  readonly clients: Map<string, ApiClient>
}

type ApiClient = Effect.Success<ReturnType<typeof CredentialHttpClient.make>>

class World {
  readonly #config: Config
  readonly #aden: ScriptedAden
  readonly #ledger: Ledger
  readonly #time: VirtualTime
  readonly #plant: Plant
  readonly #scope = Scope.makeUnsafe()
  readonly #storages: Array<CredentialStorage["Service"]> = []
  readonly #unreliable: Array<UnreliableStorage>
  /** How often a policy or a provider is still to die. */
  readonly #dying = { policy: 0, provider: 0 }
  readonly #processes: Array<Process> = []
  readonly #fibers = new Map<Operation, Fiber.Fiber<unknown, unknown>>()

  constructor(options: {
    readonly config: Config
    readonly aden: ScriptedAden
    readonly ledger: Ledger
    readonly time: VirtualTime
    readonly plant: Plant
    readonly storages: Array<UnreliableStorage>
  }) {
    this.#unreliable = options.storages
    this.#config = options.config
    this.#aden = options.aden
    this.#ledger = options.ledger
    this.#time = options.time
    this.#plant = options.plant
  }

  get open(): Effect.Effect<void> {
    return Effect.gen({ self: this }, function*() {
      const storages = Math.max(...this.#config.instances.map(({ storage }) => storage)) + 1
      const { wide } = this.#config
      for (let index = 0; index < storages; index++) {
        const storage = Context.get(
          yield* Layer.buildWithScope(this.#layerOf(index), this.#scope),
          CredentialStorage
        )
        this.#storages.push(storage)
        if (wide !== undefined) this.#unreliable.push(new UnreliableStorage(storage, wide))
      }
      if (this.#config.wide !== undefined) { for (const one of this.#config.integrations) this.#ledger.isNamed(one) }
      this.#ledger.invariants?.look()
      for (const instance of this.#config.instances.keys()) this.#processes[instance] = yield* this.#start(instance)
      yield* this.settle
    })
  }

  #layerOf(storage: number): Layer.Layer<CredentialStorage> {
    const { fallback = [] } = this.#config.wide ?? {}
    if (fallback.length === 0) return MemoryStorage.layer()
    const tenant = this.#config.instances.find((place) => place.storage === storage)?.tenant ?? "acme"
    const now = this.#time.currentTimeMillisUnsafe()
    const standing = this.#config.integrations.flatMap((one) => {
      if (!fallback.includes(one.id)) return []
      const token = this.#aden.issue(accountAt(tenant, one.server ?? 0), one.id, now)
      if (token === undefined) return []
      const credential = standingCredential(one, token)
      this.#ledger.stood(storage, token)
      this.#ledger.invariants?.stoodBehind(storage, credential, token.value)
      return [credential]
    })
    return FallbackStorage.layer([MemoryStorage.layer(), MemoryStorage.layer(standing)])
  }

  /** Runs everything that can run without time passing. */
  get settle(): Effect.Effect<void> {
    return this.#ending(this.#time.settle)
  }

  #advance(duration: number): Effect.Effect<void> {
    return this.#ending(this.#time.advance(duration))
  }

  #ending(passing: Effect.Effect<boolean>): Effect.Effect<void> {
    return Effect.map(passing, (isAtRest) => {
      if (!isAtRest) this.#ledger.violate("no endless loops", "it never becomes idle")
    })
  }

  // -------------------------------------------------------------------------------------------------------------------
  // Steps
  // -------------------------------------------------------------------------------------------------------------------

  take(step: Step): Effect.Effect<void> {
    return Effect.andThen(this.#take(step), Effect.sync(() => this.#ledger.invariants?.look()))
  }

  /** Where a tenant has an integration: with which of its providers. */
  #account(tenant: string, id: string): string {
    return accountAt(tenant, this.#config.integrations.find((one) => one.id === id)?.server ?? 0)
  }

  #take(step: Step): Effect.Effect<void> {
    return Effect.gen({ self: this }, function*() {
      const aden = this.#aden
      switch (step._tag) {
        case "Read":
          for (const { method, ref } of step.reads) {
            yield* this.#begin("read", step.instance, ref, (store) => read(store, ref, method), step.limit)
          }
          return
        case "Refresh":
          return yield* this.#begin(
            "refresh",
            step.instance,
            step.ref,
            (store) => Effect.map(store.refresh(step.ref), tokenOf),
            step.limit
          )
        case "Validate":
          return yield* this.#begin("validate", step.instance, step.ref, (store) => done(store.validate(step.ref)))
        case "Explain":
          return yield* this.#begin("explain", step.instance, step.ref, (store) => done(store.explain(step.ref)))
        case "Invalidate":
          return yield* this.#begin(
            "invalidate",
            step.instance,
            step.id,
            (store, operation) =>
              done(Effect.tap(
                store.invalidate(step.id),
                () => Effect.sync(() => this.#ledger.invalidatedBy(operation))
              ))
          )
        case "Save": {
          const own = this.#ledger.makeOwn(step.instance, step.id, step.isApiKey ? undefined : step.lifetime)
          const value = Redacted.make(own.value)
          const credential = step.isApiKey
            ? Credential.fromApiKey({ id: step.id, apiKey: value })
            : Credential.fromAccessToken({
              id: step.id,
              accessToken: value,
              expiresAt: own.expiresAt === undefined ? undefined : DateTime.makeUnsafe(own.expiresAt)
            })
          return yield* this.#begin("save", step.instance, step.id, (store) => done(store.save(credential)), step.limit)
        }
        case "SaveAccount": {
          const { alias, id, provider } = step
          const own = this.#ledger.makeOwn(step.instance, id, undefined)
          this.#ledger.isNamed(step)
          const credential = Credential.fromAccessToken({ id, accessToken: Redacted.make(own.value), provider, alias })
          return yield* this.#begin("save", step.instance, id, (store) => done(store.save(credential)), step.limit)
        }
        case "Delete":
          return yield* this.#begin(
            "delete",
            step.instance,
            step.id,
            (store) => done(store.delete(step.id)),
            step.limit
          )
        case "Sync":
          return yield* this.#begin("sync", step.instance, "", (store) => done(store.sync), step.limit)
        case "Lasting":
          return yield* this.#begin(
            "lasting",
            step.instance,
            step.ref,
            (store) => Effect.map(store.token(step.ref, { minTimeLeft: step.minTimeLeft }), bare),
            step.limit,
            step.minTimeLeft
          )
        case "Follow":
          return yield* this.#begin("follow", step.instance, step.ref, (store, operation) =>
            done(Stream.runForEach(
              store.tokens(step.ref),
              (token) => Effect.sync(() => this.#ledger.followed(operation, bare(token)))
            )), step.limit)
        case "Require":
          return yield* this.#begin("require", step.instance, "", (store) => done(store.require(step.refs)))
        case "Await":
          return yield* this.#begin(
            "await",
            step.instance,
            step.ref,
            (store) => Effect.map(store.awaitReauthorization(step.ref, { timeout: step.timeout }), tokenOf)
          )
        case "Call":
          return yield* this.#begin(
            "call",
            step.instance,
            step.ref,
            () =>
              done(Effect.flatMap(this.#client(step.instance, step.ref), (client) => client.get("https://api.test/"))),
            step.limit
          )
        case "End":
          return aden.end(this.#account(step.tenant, step.id), step.id)
        case "Storage":
          return this.#unreliable[step.storage]?.setHealth(step.reads, step.writes)
        case "Die":
          return this.#die(step.what)
        case "SetClock":
          this.#time.suspended += step.by
          // Aden's clock is right
          aden.clockSkew -= step.by
          return this.#ledger.invariants?.clockSet()
        case "Rename": {
          const one = this.#config.integrations.find(({ id }) => id === step.id)
          if (one !== undefined) this.#ledger.isNamed({ ...one, alias: step.alias })
          return aden.rename(this.#account(step.tenant, step.id), step.id, step.alias)
        }
        case "Replace": {
          const one = this.#config.integrations.find(({ id }) => id === step.id)
          if (one === undefined) return
          const account = this.#account(step.tenant, step.id)
          aden.remove(account, step.id)
          aden.connect(account, { ...one, id: step.by })
          return this.#ledger.isNamed({ ...one, id: step.by })
        }
        case "Interrupt": {
          const random = new Prng(step.salt)
          return yield* this.#interrupt(() => random.chance(step.share))
        }
        case "Advance":
          return yield* this.#advance(step.duration)
        case "Suspend":
          this.#time.suspended += step.duration
          return
        case "Restart":
          yield* this.#stop(step.instance)
          this.#ledger.restarted(step.instance)
          this.#processes[step.instance] = yield* this.#start(step.instance)
          return
        case "Fault":
          return aden.addFault(step.rule)
        case "Heal":
          return aden.heal()
        case "Revoke":
          return aden.revoke(this.#account(step.tenant, step.id), step.id)
        case "Connect":
          return this.#connect(step.tenant, step.id)
        case "Remove":
          return aden.remove(this.#account(step.tenant, step.id), step.id)
        case "Lifetime":
          return aden.setLifetime(this.#account(step.tenant, step.id), step.id, step.lifetime)
        case "ClockSkew":
          aden.clockSkew = step.duration
      }
    })
  }

  #connect(tenant: string, id: string): void {
    const integration = this.#config.integrations.find((item) => item.id === id)
    if (integration !== undefined) this.#aden.connect(this.#account(tenant, id), integration)
  }

  #die(what: Mortal): void {
    switch (what) {
      case "policy":
      case "provider":
        this.#dying[what]++
        return
      case "storage read":
      case "storage write":
        for (const { dying } of this.#unreliable) dying[what === "storage read" ? "reads" : "writes"]++
    }
  }

  /** Dies once when it is to. */
  #survives(what: "policy" | "provider"): Effect.Effect<void> {
    return Effect.suspend(() => {
      if (this.#dying[what] === 0) return Effect.void
      this.#dying[what]--
      return Effect.die(new Error(`${planted}: ${what}`))
    })
  }

  /** The client of a ref in a process, made when it is first used. */
  #client(instance: number, ref: string) {
    return Effect.suspend(() => {
      const { clients, scope, store } = this.#process(instance)
      const present = clients.get(ref)
      if (present !== undefined) return Effect.succeed(present)
      const refused = (token: string) =>
        Effect.map(CurrentOperation, (operation) => {
          if (operation !== undefined) this.#ledger.invariants?.refused(operation, token)
        })
      return CredentialHttpClient.make({
        ref,
        allowedHosts: ["api.test"],
        headers: { authorization: `Bearer {{${ref}}}` }
      })
        .pipe(
          Effect.provideService(CredentialStore, store),
          Effect.provideService(HttpClient.HttpClient, this.#aden.api(refused)),
          Effect.provideService(Scope.Scope, scope),
          Effect.orDie,
          Effect.tap((client) => Effect.sync(() => void clients.set(ref, client)))
        )
    })
  }

  /** Starts an operation of the program in a fiber of its own. */
  #begin<E>(
    kind: Operation["kind"],
    instance: number,
    ref: string,
    use: (store: CredentialStore["Service"], operation: Operation) => Effect.Effect<OperationResult, E>,
    limit?: number,
    minTimeLeft?: number
  ): Effect.Effect<void> {
    return Effect.suspend(() => {
      const operation = this.#ledger.started(kind, instance, ref, { minTimeLeft })
      const { store } = this.#process(instance)
      const used = use(store, operation)
      const limited = limit === undefined ? used : Effect.timeoutOrElse(used, {
        duration: limit,
        orElse: () =>
          Effect.sync((): OperationResult => {
            operation.isInterrupted = true
            return { _tag: "Interrupted" }
          })
      })
      return limited.pipe(
        Effect.onExit((exit) =>
          Effect.sync(() => {
            this.#fibers.delete(operation)
            this.#ledger.ended(operation, resultOf(exit))
          })
        ),
        Effect.provideService(CurrentOperation, operation),
        Effect.forkDetach,
        Effect.map((fiber) => {
          this.#fibers.set(operation, fiber)
        })
      )
    })
  }

  #interrupt(isChosen: (operation: Operation) => boolean): Effect.Effect<void> {
    return Effect.gen({ self: this }, function*() {
      for (const [operation, fiber] of Array.from(this.#fibers)) {
        if (!isChosen(operation)) continue
        operation.isInterrupted = true
        yield* Effect.forkDetach(Fiber.interrupt(fiber))
      }
      yield* this.settle
    })
  }

  /** Removes all faults. Then each connected integration has to answer with a token again, whatever happened before. */
  get recover(): Effect.Effect<void> {
    return Effect.gen({ self: this }, function*() {
      const aden = this.#aden
      aden.heal()
      for (const storage of this.#unreliable) {
        storage.setHealth("works", "works")
        storage.dying.reads = 0
        storage.dying.writes = 0
      }
      this.#dying.policy = 0
      this.#dying.provider = 0
      aden.clockSkew = 0
      this.#ledger.invariants?.look()
      aden.latency = Math.min(this.#config.latency, 40)
      for (const { tenant } of this.#config.instances) {
        for (const { id } of this.#config.integrations) {
          this.#connect(tenant, id)
          aden.setLifetime(this.#account(tenant, id), id, 3_600_000)
        }
      }
      let answered = 0
      for (let round = 0; round < 3 && answered < 2; round++) {
        this.#ledger.step++
        yield* this.#advance(45 * 60_000)
        for (const [instance, id] of this.#everywhere) {
          yield* this.#begin("read", instance, id, (store) => read(store, id, "token"))
        }
        yield* this.#advance(40_000)
        this.#ledger.checkAtRest()
        if (this.#ledger.violation !== undefined) return
        // what has answered twice answers on
        answered = this.#everywhere.every(([instance, id]) => this.#ledger.hasRecovered(instance, id))
          ? answered + 1
          : 0
      }
      for (const [instance, id] of this.#everywhere) this.#ledger.checkRecovered(instance, id)
    })
  }

  /** Each integration in each instance. */
  get #everywhere(): ReadonlyArray<readonly [instance: number, id: string]> {
    const { instances, integrations } = this.#config
    return Array.from(instances.keys()).flatMap((instance) => integrations.map(({ id }) => [instance, id] as const))
  }

  get close(): Effect.Effect<void> {
    return Effect.gen({ self: this }, function*() {
      for (const instance of this.#config.instances.keys()) yield* this.#stop(instance)
      yield* Scope.close(this.#scope, Exit.void)
      yield* this.settle
    })
  }

  // -------------------------------------------------------------------------------------------------------------------
  // Processes
  // -------------------------------------------------------------------------------------------------------------------

  #process(instance: number): Process {
    const process = this.#processes[instance]
    if (process === undefined) throw new Error(`no store in instance ${instance}`)
    return process
  }

  /** A new store, provider and client over the storage of the instance. */
  #start(instance: number): Effect.Effect<Process> {
    return Effect.gen({ self: this }, function*() {
      const { autoRefresh, cacheTtl, deadline, maxStale, refreshBuffer, reportsUsage, instances } = this.#config
      const { integrations, wide } = this.#config
      const { options, provider: aroundProvider = identity, storage: aroundStorage = identity } = this.#plant
      const { providers: aroundProviders = identity, store: aroundStore = Effect.succeed } = this.#plant
      const place = instances[instance]
      const storage = place === undefined ? undefined : this.#storages[place.storage]
      if (place === undefined || storage === undefined) throw new Error(`no instance ${instance}`)
      const http = this.#aden.client({
        started: (exchange) =>
          Effect.withFiber((fiber) =>
            Effect.sync(() => this.#ledger.requestStarted(instance, fiber.getRef(CurrentCall), exchange))
          ),
        answered: (exchange) => this.#ledger.answered(instance, exchange)
      })
      const servers: ReadonlyArray<Server> = integrations.some(({ server }) => server === 1) ? [0, 1] : [0]
      const providerOf = (server: Server) =>
        AdenSyncProvider.layer({ providerId: providerIds[server], refreshBuffer, reportUsage: reportsUsage }).pipe(
          Layer.provide(AdenClient.layer({
            baseUrl: "https://aden.test",
            apiKey: Redacted.make(apiKeyOf(accountAt(place.tenant, server))),
            tenantId: accountAt(place.tenant, server)
          })),
          Layer.provide(Layer.succeed(HttpClient.HttpClient, http))
        )
      const provider = servers.length === 1 ? providerOf(0) : CredentialProviders.layerAll(servers.map(providerOf))
      const observed = Layer.effect(
        CredentialProviders,
        Effect.map(CredentialProviders, ({ all }) => ({
          all: aroundProviders(all.map((item) =>
            aroundProvider(
              observedProvider(wide === undefined ? item : this.#mortal(item), instance, this.#ledger)
            )
          ))
        }))
      )
      const policy = wide?.hasOwnPolicies === true ? { policy: this.#ownPolicies() } : {}
      const storageOfStore = aroundStorage(yield* this.#storageOf(instance, storage, place.storage))
      const layer = CredentialStore.layer({ autoRefresh, cacheTtl, deadline, maxStale, ...policy, ...options }).pipe(
        Layer.provide(Layer.provide(observed, provider)),
        Layer.provide(Layer.succeed(CredentialStorage, storageOfStore))
      )
      const scope = Scope.makeUnsafe()
      const context = yield* Effect.orDie(Layer.buildWithScope(layer, scope))
      const store = yield* Scope.provide(aroundStore(Context.get(context, CredentialStore), storageOfStore), scope)
      yield* Stream.runForEach(store.changes, (event) => Effect.sync(() => this.#ledger.event(instance, event))).pipe(
        Effect.forkIn(scope, { startImmediately: true })
      )
      return { store, scope, clients: new Map() }
    })
  }

  #storageOf(
    instance: number,
    storage: CredentialStorage["Service"],
    number: number
  ): Effect.Effect<CredentialStorage["Service"]> {
    const hasOwnLock = !this.#config.hasSharedLock
    const unreliable = this.#unreliable[number]
    if (unreliable === undefined) {
      return Effect.succeed(observedStorage(storage, instance, this.#ledger, { hasOwnLock }))
    }
    const ledger = this.#ledger
    return unreliable.view({
      saved: (credential) =>
        Effect.map(CurrentOperation, (operation) => {
          const { expiresAt, value } = valueOf(credential)
          ledger.isNamed(accountOf(credential))
          ledger.invariants?.saved(instance, credential, value)
          ledger.storedToken({ id: credential.id, value, expiresAt, instance, operation })
        }),
      deleted: (id, isDeleted) =>
        Effect.map(CurrentOperation, (operation) => {
          if (isDeleted) ledger.invariants?.deleted(instance, id)
          if (isDeleted || operation?.kind === "delete") ledger.deleted(instance, id, operation)
        }),
      stateSaved: (id, state) => Effect.sync(() => ledger.storedState(instance, id, state.blockedSince !== undefined))
    }, { hasOwnLock })
  }

  /** A provider that dies when it is to. */
  #mortal(provider: CredentialProvider): CredentialProvider {
    const survives = this.#survives("provider")
    return {
      ...provider,
      fetch: (id) => Effect.andThen(survives, provider.fetch(id)),
      refresh: (credential) => Effect.andThen(survives, provider.refresh(credential))
    }
  }

  /** Policies of the program's own, which die when they are to. */
  #ownPolicies() {
    const { cacheTtl } = this.#config
    const surviving = (policy: RefreshPolicy): RefreshPolicy =>
      Schedule.modifyDelay(policy, ({ duration }) => Effect.as(this.#survives("policy"), duration))
    return { confirm: surviving(confirmWithin(cacheTtl)), renew: surviving(renewInTime) }
  }

  /** Ends a store as a program ends: its operations are interrupted, then its scope closes. */
  #stop(instance: number): Effect.Effect<void> {
    return Effect.gen({ self: this }, function*() {
      yield* this.#interrupt((operation) => operation.instance === instance)
      const closing = yield* Effect.forkDetach(Scope.close(this.#process(instance).scope, Exit.void))
      yield* this.settle
      if (closing.pollUnsafe() === undefined) yield* this.#advance(5_000)
      if (closing.pollUnsafe() === undefined) {
        this.#ledger.violate("a store ends within 5 s", "its scope is still closing")
        yield* Effect.forkDetach(Fiber.interrupt(closing))
      }
      this.#ledger.checkStopped(instance)
    })
  }
}

// ---------------------------------------------------------------------------------------------------------------------
// What is observed
// ---------------------------------------------------------------------------------------------------------------------

/** The operation of the program that started a fiber; a refresh runs on behalf of the operation that started it. */
const CurrentOperation = Context.Reference<Operation | undefined>("simulation/CurrentOperation", {
  defaultValue: () => undefined
})

/** The question to the provider that a request belongs to. */
const CurrentCall = Context.Reference<Call | undefined>("simulation/CurrentCall", { defaultValue: () => undefined })

/** The ids of the providers: of one, or of two. */
const providerIds = { 0: "aden_sync", 1: "aden_two" } as const

const serverOf = ({ id }: CredentialProvider): Server => id === providerIds[1] ? 1 : 0

/** A credential as the first provider would have stored it. */
const standingCredential = ({ alias, id, provider, server = 0 }: IntegrationConfig, token: Issued): Credential => {
  const key = (name: string, value: string | undefined, expiresAt?: DateTime.Utc) =>
    value === undefined ? [] : [[name, new CredentialKey({ name, value: Redacted.make(value), expiresAt })] as const]
  const expiresAt = token.expiresAt === undefined ? undefined : DateTime.makeUnsafe(token.expiresAt)
  return new Credential({
    id,
    type: "oauth2",
    keys: new Map([
      ...key("access_token", token.value, expiresAt),
      ...key("_aden_managed", "true"),
      ...key("_integration_type", provider),
      ...key("_alias", alias)
    ]),
    providerId: providerIds[server],
    autoRefresh: true,
    description: "",
    tags: []
  })
}

const observedProvider = (provider: CredentialProvider, instance: number, ledger: Ledger): CredentialProvider => {
  const observed = <A, E>(
    kind: CallKind,
    id: string | undefined,
    self: Effect.Effect<A, E>,
    answerOf: (answer: A) => CallResult
  ): Effect.Effect<A, E> =>
    Effect.withFiber((fiber) => {
      const call = ledger.callStarted(instance, kind, id, fiber.getRef(CurrentOperation), serverOf(provider))
      return self.pipe(
        Effect.provideService(CurrentCall, call),
        Effect.onExit((exit) =>
          Effect.sync(() => {
            const result = Exit.isSuccess(exit) ? answerOf(exit.value) : failureOf(exit.cause)
            ledger.callEnded(call, result)
          })
        )
      )
    })
  const credentialOf = (credential: Credential) => ({ ...valueOf(credential), _tag: "Token" as const })
  return {
    ...provider,
    fetch: (id) =>
      observed(
        "fetch",
        id,
        provider.fetch(id),
        Option.match({
          onNone: (): CallResult => ({ _tag: "Nothing" }),
          onSome: credentialOf
        })
      ),
    refresh: (credential) => observed("refresh", credential.id, provider.refresh(credential), credentialOf),
    validate: (credential) =>
      observed("validate", credential.id, provider.validate(credential), ({ requiresReauthorization, valid }) => ({
        _tag: "Validity",
        isValid: valid,
        isBlocked: requiresReauthorization
      })),
    list: observed("list", undefined, provider.list, ({ accounts }) => ({
      _tag: "List",
      ids: accounts.map(({ id }) => id),
      accounts
    }))
  }
}

const observedStorage = (
  storage: CredentialStorage["Service"],
  instance: number,
  ledger: Ledger,
  options: { readonly hasOwnLock: boolean }
): CredentialStorage["Service"] => {
  const lock = makeKeyedLock()
  const saved = (credential: Credential) =>
    Effect.map(CurrentOperation, (operation) => {
      const { expiresAt, value } = valueOf(credential)
      ledger.storedToken({ id: credential.id, value, expiresAt, instance, operation })
    })
  return {
    ...storage,
    save: (credential, saveOptions) => Effect.tap(storage.save(credential, saveOptions), () => saved(credential)),
    saveMany: (credentials, saveOptions) =>
      Effect.tap(
        storage.saveMany(credentials, saveOptions),
        (failures) => Effect.forEach(credentials.filter(({ id }) => !failures.has(id)), saved, { discard: true })
      ),
    delete: (id, deleteOptions) =>
      Effect.tap(storage.delete(id, deleteOptions), (isDeleted) =>
        Effect.map(CurrentOperation, (operation) => {
          if (isDeleted || operation?.kind === "delete") ledger.deleted(instance, id, operation)
        })),
    saveState: (id, state, stateOptions) =>
      Effect.tap(
        storage.saveState(id, state, stateOptions),
        (isSaved) =>
          Effect.sync(() => {
            if (isSaved) ledger.storedState(instance, id, state.blockedSince !== undefined)
          })
      ),
    withLock: options.hasOwnLock ? (id, effect) => lock(id)(effect) : storage.withLock
  }
}

class FiberCount implements Metric.FiberRuntimeMetricsService {
  live = 0

  recordFiberStart(): void {
    this.live++
  }

  recordFiberEnd(): void {
    this.live--
  }
}

// ---------------------------------------------------------------------------------------------------------------------
// Results
// ---------------------------------------------------------------------------------------------------------------------

const valueOf = (credential: Credential): { readonly value: string; readonly expiresAt: number | undefined } => {
  const { defaultKey, expiresAt } = credential
  return {
    value: defaultKey === undefined ? "nothing" : Redacted.value(defaultKey.value),
    expiresAt: expiresAt === undefined ? undefined : DateTime.toEpochMillis(expiresAt)
  }
}

const tokenOf = (credential: Credential): OperationResult => ({ _tag: "Token", ...valueOf(credential) })

const done = <A, E>(self: Effect.Effect<A, E>): Effect.Effect<OperationResult, E> => Effect.as(self, { _tag: "Done" })

const bare = (value: Redacted.Redacted<string>) => ({
  _tag: "Token" as const,
  value: Redacted.value(value),
  expiresAt: "unknown" as const
})

const read = (
  store: CredentialStore["Service"],
  ref: string,
  method: ReadMethod
): Effect.Effect<OperationResult, Effect.Error<ReturnType<CredentialStore["Service"]["getKey"]>>> => {
  switch (method) {
    case "get":
      return Effect.map(store.get(ref), tokenOf)
    case "getOption":
      return Effect.map(
        store.getOption(ref),
        Option.match({
          onNone: (): OperationResult => ({ _tag: "Failure", tag: "CredentialNotFound", retryAfter: undefined }),
          onSome: tokenOf
        })
      )
    case "token":
      return Effect.map(store.token(ref), bare)
    case "getKey":
      return Effect.map(store.getKey(ref, "access_token"), bare)
  }
}

const failureOf = <E>(cause: Cause.Cause<E>) => {
  const error: unknown = Option.getOrUndefined(Cause.findErrorOption(cause))
  if (error !== undefined) {
    return { _tag: "Failure" as const, tag: tagOf(error), retryAfter: retryAfterOf(error) }
  }
  return Cause.hasInterruptsOnly(cause)
    ? { _tag: "Interrupted" as const }
    : { _tag: "Defect" as const, message: Cause.pretty(cause) }
}

const resultOf = <E>(exit: Exit.Exit<OperationResult, E>): OperationResult =>
  Exit.isSuccess(exit) ? exit.value : failureOf(exit.cause)

const tagOf = (error: unknown): string =>
  Predicate.hasProperty(error, "_tag") && typeof error._tag === "string" ? error._tag : String(error)

const retryAfterOf = (error: unknown): number | undefined =>
  Predicate.hasProperty(error, "retryAfter") && Duration.isDuration(error.retryAfter)
    ? Duration.toMillis(error.retryAfter)
    : undefined
