/**
 * What the leases of files and of databases share: their duration, and the wait for them.
 */
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import { LockTimeout } from "../errors/StorageError.ts"
import type { KeyedLock } from "../util/KeyedLock.ts"

export const renewEvery = Duration.seconds(5)

/** A lease that is not renewed for this long is free. */
export const leaseMillis = 15_000

/** Longer than a dead holder's lease, and short enough to leave time of a reader's deadline for asking Aden. */
const lockTimeout = Duration.seconds(20)

/**
 * Acquires a lock within this process and then the lease, both held until the scope closes. So only one fiber of this process at a
 * time waits for other processes.
 */
export const acquireLease = <A, E, R>(
  localLock: KeyedLock,
  key: string,
  acquire: Effect.Effect<A, E, R>
): Effect.Effect<A, E | LockTimeout, R | Scope.Scope> =>
  localLock.held(key).pipe(
    Effect.andThen(acquire),
    Effect.timeoutOrElse({ duration: lockTimeout, orElse: () => Effect.fail(new LockTimeout({ after: lockTimeout })) })
  )
