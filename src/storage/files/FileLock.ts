/**
 * Locks that exclude processes, over nothing but files.
 *
 * A lock is a folder of numbered files, of which the one with the highest number alone counts: it says who holds the lock, or
 * that it is free. To take the lock is to make the file with the next number, exclusively; to renew it or to give it back is to
 * overwrite the own file in place, which stays open meanwhile. The highest file is never removed, so the numbers only grow, and this is why at most one
 * taker succeeds, however late a slow one comes:
 *
 * - Two that saw the same number free or abandoned both try to make the next one, and the system lets one of them.
 * - One that comes so late that the next file was made and removed again can make it once more. It then looks again, finds a
 *   higher number, which cannot have gone, and removes its own. Until then its file was below the highest, and meant nothing.
 * - Nobody removes or replaces the file of another that counts. A holder that was taken over overwrites a file that does not
 *   count any more, or none. Where a person removed all of them, the numbers begin anew: a holder tells its own file by what
 *   it has open, not by its number alone.
 *
 * A holder that stops without giving back (killed, suspended, on a host that lost the network) is taken over when its file did
 * not change for the lease, by the watch of the one who waits: clocks of different hosts are never compared. Only the time in
 * which it could look is counted, so that a laptop that slept does not take over from a holder that slept with it. A process of
 * this host that is gone is taken over at once. No lease can keep a suspended holder from going on where it was; whoever
 * writes under a lock calls `check` before the step that counts, and a renewal is told apart by the generation.
 *
 * Of the libraries, `proper-lockfile` and `lockfile` remove the lock that they judged abandoned by its path, and so may remove
 * the one that another waiter just took; `fs-ext` (flock) is native code and is not on Bun, Deno or a network file system. All
 * three go past Effect's FileSystem and Clock.
 */
import * as Clock from "effect/Clock"
import * as Data from "effect/Data"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Random from "effect/Random"
import * as Schema from "effect/Schema"
import type * as Scope from "effect/Scope"
import { Buffer } from "node:buffer"
import { randomBytes } from "node:crypto"
import type { StorageInsecure, StorageIoFailed } from "../../errors/CredentialError.ts"
import type { OwnFile, PrivateFiles } from "./PrivateFiles.ts"
import { ProcessIdentity } from "./ProcessIdentity.ts"
import type { Processes } from "./ProcessIdentity.ts"

/** The lock was taken over: what was to be done under it is not to be done. */
export class LockLost extends Data.TaggedError("LockLost") {}

/** A lock that is held. */
export interface HeldLock {
  /** Fails when the lock has been taken over. */
  readonly check: Effect.Effect<void, LockLost | StorageIoFailed>
}

const renewEvery = Duration.seconds(5)
/** After this time without a renewal a lock is nobody's. */
export const leaseMillis = 15_000
/**
 * A file that does not tell its holder is still being written, on a system without hard links, or is no lock: whoever makes it
 * looks again afterwards, and then finds it lost.
 */
const unwrittenMillis = 1_000
const firstPauseMillis = 2
/** Every so many times it is taken, what takers that died left beside a lock is looked for. */
const tidyEvery = 64
const maximumBytes = 4_096

const Holder = Schema.fromJsonString(Schema.Struct({ token: Schema.String, ...ProcessIdentity.fields }))
const decodeHolder = Schema.decodeUnknownOption(Holder)
const encodeHolder = Schema.encodeSync(Holder)

/** The line that is overwritten in place: always as long. */
const heading = (status: "held" | "free", beat: number): Uint8Array =>
  Buffer.from(`${status} ${String(beat).padStart(10, "0")}\n`)

const numberName = /^[1-9]\d{0,14}$/

/** How a lock looks: that of the highest number, 0 where there is none. */
interface Sight {
  readonly number: number
  /** None of a file that is too large to be a lock. */
  readonly text: string | undefined
}

/** A lock that was taken: its open file, the line in it that names the holder, and its number. */
interface OwnLock {
  readonly file: OwnFile
  readonly holder: string
  readonly number: number
}

const isFree = ({ number, text }: Sight): boolean => number === 0 || text?.startsWith("free") === true

const holderOf = ({ text = "" }: Sight) => decodeHolder(text.slice(text.indexOf("\n") + 1))

/** Whether a file was made here: one that is empty is on its way, or was never finished. */
const isLock = (text: string | undefined): boolean => text === "" || text?.match(/^(held|free) \d{10}\n/) != null

export const makeFileLocks = (files: PrivateFiles, folder: string, processes: Processes) => {
  const numbersIn = (place: string) =>
    Effect.map(files.names(place, ""), (names) => names.filter((name) => numberName.test(name)).map(Number))

  const fileOf = (place: string, number: number) => files.fileIn(place, String(number))

  const textOf = (place: string, number: number) =>
    files.read(fileOf(place, number), maximumBytes).pipe(
      Effect.map(Option.match({ onNone: () => "", onSome: (bytes) => Buffer.from(bytes).toString() })),
      Effect.catchTag("FileTooLarge", () => Effect.succeed(undefined))
    )

  const look = Effect.fnUntraced(
    function*(place: string): Effect.fn.Return<Sight, StorageIoFailed | StorageInsecure> {
      const number = Math.max(0, ...yield* numbersIn(place))
      return { number, text: number === 0 ? "" : yield* textOf(place, number) }
    }
  )

  /** A file system without numbers for files, or with ever new ones, is asked for the token instead. */
  const isOwn = ({ file, holder, number }: OwnLock, place: string) =>
    Effect.flatMap(file.isInPlace, (isInPlace) =>
      isInPlace ? Effect.succeed(true) : Effect.map(
        textOf(place, number),
        (text) => text?.endsWith(holder) === true
      ))

  const check = Effect.fnUntraced(function*(place: string, own: OwnLock) {
    const numbers = yield* numbersIn(place)
    const isHighest = numbers.includes(own.number) && !numbers.some((other) => other > own.number)
    if (!isHighest || !(yield* isOwn(own, place))) return yield* new LockLost()
  }, Effect.catchTag("StorageInsecure", () => Effect.fail(new LockLost())))

  const giveBack = ({ file }: OwnLock) => Effect.ignore(file.overwrite(heading("free", 0)))

  /** Makes the file of this number; none when another was faster. */
  const take = Effect.fnUntraced(function*(place: string, number: number) {
    const holder = `${encodeHolder({ token: randomBytes(8).toString("hex"), ...processes.self })}\n`
    const file = yield* files.create(fileOf(place, number), Buffer.concat([heading("held", 0), Buffer.from(holder)]))
    if (Option.isNone(file)) return undefined
    const own: OwnLock = { file: file.value, holder, number }
    const numbers = yield* Effect.onError(numbersIn(place), () => giveBack(own))
    if (numbers.some((other) => other > number)) {
      yield* files.remove(fileOf(place, number))
      return undefined
    }
    for (const lower of numbers.filter((other) => other < number)) {
      yield* Effect.ignore(
        Effect.flatMap(
          textOf(place, lower),
          (text) => isLock(text) ? files.remove(fileOf(place, lower)) : Effect.void
        )
      )
    }
    if (number % tidyEvery === 0) yield* files.removeAbandoned(place)
    return own
  })

  const renew = ({ file }: OwnLock) => {
    let beat = 0
    return Effect.suspend(() => file.overwrite(heading("held", ++beat))).pipe(
      // the next beat may succeed
      Effect.ignore,
      Effect.delay(renewEvery),
      Effect.forever
    )
  }

  /**
   * Waits for the lock of this name and holds it until the scope closes; looks again after `longestPause` ms at the latest. The
   * name has to be safe as that of a folder.
   */
  const acquire = (
    name: string,
    longestPause: number
  ): Effect.Effect<HeldLock, StorageIoFailed | StorageInsecure, Scope.Scope> =>
    Effect.uninterruptibleMask(Effect.fnUntraced(function*(restore) {
      const place = files.fileIn(folder, name)
      const ensurePlace = Effect.andThen(files.ensureFolder(folder), files.ensureOwnFolder(place))
      yield* ensurePlace
      let pause = firstPauseMillis
      let last = yield* look(place)
      let watchedMillis = 0
      for (;;) {
        const holder = holderOf(last)
        const mayTake = isFree(last) ||
          watchedMillis >= (Option.isNone(holder) ? unwrittenMillis : leaseMillis) ||
          (Option.isSome(holder) && (yield* processes.isGone(holder.value)))
        // somebody may have removed all locks while it waited
        if (mayTake && last.number === 0) yield* ensurePlace
        const own = mayTake ? yield* take(place, last.number + 1) : undefined
        if (own !== undefined) {
          yield* Effect.addFinalizer(() => giveBack(own))
          yield* Effect.forkScoped(renew(own))
          return { check: check(place, own) }
        }
        const before = yield* Clock.currentTimeMillis
        yield* restore(Effect.sleep(Duration.millis(pause * (yield* Random.nextBetween(0.5, 1)))))
        const sight = yield* look(place)
        const slept = (yield* Clock.currentTimeMillis) - before
        // a longer sleep than asked for is one in which the holder may have slept too
        watchedMillis = sight.number === last.number && sight.text === last.text
          ? watchedMillis + Math.max(0, Math.min(slept, pause + unwrittenMillis))
          : 0
        last = sight
        pause = Math.min(2 * pause, longestPause)
      }
    }))

  /** Who did not give back the lock of this name, for whoever looks what is wrong. */
  const heldBy = Effect.fnUntraced(function*(name: string) {
    const place = files.fileIn(folder, name)
    const sight = yield* look(place)
    if (isFree(sight)) return undefined
    const holder = Option.getOrUndefined(holderOf(sight))
    const isGone = holder !== undefined && (yield* processes.isGone(holder))
    return { location: fileOf(place, sight.number), pid: holder?.pid, isGone }
  })

  return { acquire, heldBy } as const
}

export type FileLocks = ReturnType<typeof makeFileLocks>
