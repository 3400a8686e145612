import * as Arr from "effect/Array"
import * as Clock from "effect/Clock"
import type * as Context from "effect/Context"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import type * as Fiber from "effect/Fiber"
import * as Metric from "effect/Metric"
import type * as Redacted from "effect/Redacted"
import * as Semaphore from "effect/Semaphore"
import { CredentialKeyNotFound, CredentialNotFound, RequiredCredentialsUnusable } from "../errors/CredentialError.ts"
import type { CredentialFailure, InsufficientTimeLeft } from "../errors/CredentialError.ts"
import type { Credential, CredentialRef } from "../model/Credential.ts"
import { durationSetting } from "../model/settings.ts"
import * as metrics from "../util/metrics.ts"
import type { Cell } from "./Cell.ts"
import type { Entries } from "./Entries.ts"
import { FastRead } from "./fastRead.ts"
import type { Answer } from "./fastRead.ts"
import type { Refresher } from "./refresh.ts"
import type { RefResolver } from "./resolve.ts"

/** How many refs `require` reads at a time. */
const requireConcurrency = 16

type Token = Redacted.Redacted<string>

/**
 * The reads of a store. While a credential is fresh, a read of it does no I/O, opens no span and allocates next to nothing. Such
 * reads are counted in a variable, which becomes part of the metric when the next read does more.
 */
export class Reads {
  readonly #entries: Entries
  readonly #resolver: RefResolver
  readonly #refresher: Refresher
  /** The reads of the refs that are known to name something, until what refs mean has changed. */
  readonly #tokens = new Map<CredentialRef, TokenRead>()
  readonly #credentials = new Map<CredentialRef, CredentialRead>()
  #version: number
  #uncounted = 0
  // looking the clock up costs as much as all the rest: a fiber's reads do it once
  #context: Context.Context<never> | undefined = undefined
  #clock: Clock.Clock | undefined = undefined

  constructor(options: {
    readonly entries: Entries
    readonly resolver: RefResolver
    readonly refresher: Refresher
  }) {
    this.#entries = options.entries
    this.#resolver = options.resolver
    this.#refresher = options.refresher
    this.#version = options.entries.version
  }

  get(ref: CredentialRef): Effect.Effect<Credential, CredentialFailure> {
    this.#forgetMeanings()
    const present = this.#credentials.get(ref)
    if (present !== undefined) return present
    const made = new CredentialRead(ref, this)
    if (this.#entries.known(ref) !== undefined) this.#credentials.set(ref, made)
    return made
  }

  token(ref: CredentialRef): Effect.Effect<Token, CredentialFailure | CredentialKeyNotFound> {
    this.#forgetMeanings()
    const present = this.#tokens.get(ref)
    if (present !== undefined) return present
    const made = new TokenRead(ref, this)
    if (this.#entries.known(ref) !== undefined) this.#tokens.set(ref, made)
    return made
  }

  #forgetMeanings(): void {
    if (this.#version === this.#entries.version) return
    this.#tokens.clear()
    this.#credentials.clear()
    this.#version = this.#entries.version
  }

  /** Counts the changes to what refs mean. */
  get version(): number {
    return this.#entries.version
  }

  known(ref: CredentialRef): Cell | undefined {
    return this.#entries.known(ref)
  }

  /** Whether a ref that is not an id may mean another account, which has not been read yet. */
  get isBehind(): boolean {
    return this.#entries.accounts.isBehind
  }

  /** The time by the clock of a fiber. */
  now(fiber: Fiber.Fiber<unknown, unknown>): number {
    if (this.#clock === undefined || this.#context !== fiber.context) {
      this.#context = fiber.context
      this.#clock = fiber.getRef(Clock.Clock)
    }
    return this.#clock.currentTimeMillisUnsafe()
  }

  /** A read found a fresh credential in memory. */
  countFresh(): void {
    this.#uncounted++
  }

  /** Adds the reads that were not counted yet to the metric. */
  countMemory(): Effect.Effect<void> {
    return Effect.suspend(() => {
      const count = this.#uncounted
      this.#uncounted = 0
      return count === 0
        ? Effect.void
        : Metric.update(metrics.reads({ source: "memory" }), count)
    })
  }

  find(ref: CredentialRef): Effect.Effect<Credential, CredentialFailure> {
    return this.#counting(ref, (cell) => this.#refresher.read(cell))
  }

  findFor(
    ref: CredentialRef,
    minTimeLeft: number
  ): Effect.Effect<Credential, CredentialFailure | InsufficientTimeLeft> {
    return this.#counting(ref, (cell) => this.#refresher.readFor(cell, ref, minTimeLeft))
  }

  /** Counts a read that was more than a look into memory, by where its credential came from. */
  #counting<E extends CredentialFailure | InsufficientTimeLeft>(
    ref: CredentialRef,
    read: (cell: Cell) => Effect.Effect<Credential, E>
  ) {
    return Effect.gen({ self: this }, function*() {
      yield* this.countMemory()
      const held = this.#entries.known(ref)?.entry.credential
      const credential = yield* this.#resolver.use(ref, read)
      const source = credential === held ? "memory" : this.#entries.known(ref)?.entry.held?.source ?? "aden"
      yield* Effect.annotateCurrentSpan({ "credential.source": source })
      yield* Metric.update(metrics.reads({ source }), 1)
      return credential
    })
  }

  /** Whoever waits for the credential of a ref waits no longer than the deadline, and is told of what it asked for. */
  answering<A, E extends { readonly _tag: string }>(
    effect: Effect.Effect<A, E | CredentialNotFound>,
    ref: CredentialRef
  ) {
    return effect.pipe(
      Effect.catchIf(
        (error) => error instanceof CredentialNotFound,
        () => Effect.fail(new CredentialNotFound({ ref }))
      ),
      this.#refresher.withinDeadline(ref),
      Effect.tapError((error) => Metric.update(metrics.readFailures({ error: error._tag }), 1))
    )
  }

  /** Reads each for its token, within one deadline for all of them, with the time that a ref waits for its turn. */
  problemsOf(refs: ReadonlyArray<CredentialRef>) {
    const places = Semaphore.makeUnsafe(requireConcurrency)
    return Effect.map(
      Effect.forEach(
        refs,
        (ref) =>
          Effect.match(this.#refresher.withinDeadline(ref)(places.withPermit(this.token(ref))), {
            onSuccess: () => undefined,
            onFailure: (error) => ({ ref, error })
          }),
        { concurrency: "unbounded" }
      ),
      (results) => results.filter((problem) => problem !== undefined)
    )
  }
}

/** A read of one ref. */
abstract class RefRead<A, E> extends FastRead<A, E> {
  protected readonly ref: CredentialRef
  protected readonly reads: Reads
  #cell: Cell | undefined = undefined
  #isId = false
  #version = -1

  constructor(ref: CredentialRef, reads: Reads) {
    super()
    this.ref = ref
    this.reads = reads
  }

  protected abstract answerOf(cell: Cell): Answer<A> | undefined

  /** What the cell has, while the decision to serve it is valid. */
  protected override fresh(fiber: Fiber.Fiber<unknown, unknown>): Answer<A> | undefined {
    const { reads } = this
    if (this.#version !== reads.version) {
      this.#version = reads.version
      this.#cell = reads.known(this.ref)
      this.#isId = this.#cell?.id === this.ref
    }
    const cell = this.#cell
    if (cell === undefined || (!this.#isId && reads.isBehind)) return undefined
    const now = reads.now(fiber)
    if (now >= cell.serveUntil || now < cell.serveFrom) return undefined
    const answer = this.answerOf(cell)
    if (answer !== undefined) reads.countFresh()
    return answer
  }
}

class CredentialRead extends RefRead<Credential, CredentialFailure> {
  protected override answerOf(cell: Cell): Answer<Credential> | undefined {
    return cell.answer
  }

  protected override read(): Effect.Effect<Credential, CredentialFailure> {
    return findAndRead(this.reads, this.ref)
  }
}

class TokenRead extends RefRead<Token, CredentialFailure | CredentialKeyNotFound> {
  protected override answerOf(cell: Cell): Answer<Token> | undefined {
    return cell.token
  }

  protected override read(): Effect.Effect<Token, CredentialFailure | CredentialKeyNotFound> {
    return Effect.flatMap(findAndRead(this.reads, this.ref), (credential) => tokenOf(this.ref, credential))
  }
}

const tokenOf = (ref: CredentialRef, { defaultKey }: Credential): Effect.Effect<Token, CredentialKeyNotFound> =>
  defaultKey === undefined ? Effect.fail(new CredentialKeyNotFound({ ref })) : Effect.succeed(defaultKey.value)

/** A read that looks further than into memory. */
export const findAndRead = Effect.fn("CredentialStore.get")(function*(reads: Reads, ref: CredentialRef) {
  yield* Effect.annotateCurrentSpan({ "credential.ref": ref })
  return yield* reads.find(ref)
}, (effect, reads, ref) => reads.answering(effect, ref))

/** The token, if it lasts at least that long. */
export const tokenFor = Effect.fn("CredentialStore.token")(
  function*(reads: Reads, ref: CredentialRef, input: Duration.Input) {
    yield* Effect.annotateCurrentSpan({ "credential.ref": ref })
    // a time that makes no sense is a bug of the program's
    const minTimeLeft = yield* Effect.orDie(durationSetting("minTimeLeft", input, { isZeroAllowed: true }))
    return yield* tokenOf(ref, yield* reads.findFor(ref, Duration.toMillis(minTimeLeft)))
  },
  (effect, reads, ref) => reads.answering(effect, ref)
)

export const require = Effect.fn("CredentialStore.require")(
  function*(reads: Reads, refs: ReadonlyArray<CredentialRef>) {
    const problems = yield* reads.problemsOf(refs)
    if (Arr.isReadonlyArrayNonEmpty(problems)) return yield* new RequiredCredentialsUnusable({ problems })
  }
)
