/**
 * Runs statements outside of the program's transactions and with a time limit.
 */
import * as Context from "effect/Context"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Schedule from "effect/Schedule"
import * as Scope from "effect/Scope"
import type { SqlClient } from "effect/sql/SqlClient"
import { isSqlError } from "effect/sql/SqlError"
import type { SqlError } from "effect/sql/SqlError"
import { StorageIoFailed } from "../../errors/StorageError.ts"
import { sqlFault, unreachableRemedy } from "./fault.ts"

/** A server that does not answer within this time counts as away. */
export const answerTime = Duration.seconds(2)

/**
 * Runs outside of a transaction that the program has open. As part of it, other writers would wait for its end, and a rollback would
 * lose what Aden answered.
 */
export const outsideTransactions = (sql: SqlClient) => <A, E>(effect: Effect.Effect<A, E>): Effect.Effect<A, E> =>
  Effect.updateContext(effect, (context: Context.Context<never>) => Context.omit(sql.transactionService)(context))

/** A serialization failure or deadlock, where the isolation level of the database is stricter than the default. */
const hasCollided = (error: SqlError | StorageIoFailed): boolean =>
  isSqlError(error) && (error.reason._tag === "SerializationError" || error.reason._tag === "DeadlockError")

const afterCollision = Schedule.min([Schedule.exponential("2 millis"), Schedule.spaced("100 millis")]).pipe(
  Schedule.jittered
)

/** One writer always succeeds, so this only ends with a server that rolls back everything. */
const collisions = 200

/**
 * Fails after `duration` without waiting for the statement to be cancelled, which a hanging server would delay. An interruption does
 * wait for that, so that the outcome in the database is certain. After a collision the statement is retried with a new time
 * limit.
 */
export const answeredWithin =
  (duration: Duration.Duration, location: string) =>
  <A>(statement: Effect.Effect<A, SqlError>): Effect.Effect<A, StorageIoFailed> =>
    Effect.acquireUseRelease(
      Effect.forkDetach(statement, { startImmediately: true }),
      (fiber) =>
        Effect.timeoutOrElse(Fiber.join(fiber), {
          duration,
          orElse: () =>
            Effect.andThen(
              Effect.forkDetach(Fiber.interrupt(fiber)),
              Effect.fail(
                new StorageIoFailed({
                  location,
                  detail: `the Postgres server did not answer within ${Duration.format(duration)}`,
                  remedy: unreachableRemedy
                })
              )
            )
        }),
      (fiber, exit) => Exit.hasInterrupts(exit) ? Fiber.interrupt(fiber) : Effect.void
    ).pipe(
      Effect.retry({ schedule: afterCollision, times: collisions, while: hasCollided }),
      Effect.mapError((error) => isSqlError(error) ? sqlFault(location, error) : error)
    )

/**
 * A scope that closes within `answerTime`: releasing a connection talks to the server, which may hang, and a program has to be able
 * to end.
 */
export const boundedScope: Effect.Effect<Scope.Closeable, never, Scope.Scope> = Effect.acquireRelease(
  Scope.make(),
  (scope) =>
    Effect.forkDetach(Scope.close(scope, Exit.void), { startImmediately: true }).pipe(
      Effect.flatMap((fiber) => Effect.timeoutOption(Fiber.await(fiber), answerTime)),
      Effect.asVoid
    )
)
