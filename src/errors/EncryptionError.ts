/**
 * Why an encrypted text cannot be opened.
 *
 * @since 0.1.0
 */
import * as Schema from "effect/Schema"
import { ActionableError } from "./Actionable.ts"

/**
 * A text is not a Fernet token that these keys open. Says which rule it broke, nothing of what it holds:
 * `Malformed` (not the format, or cut off), `NotAuthentic` (another key, or altered), `Expired` (older than the time to live),
 * `FromFuture` (its time is more than a minute ahead of the clock).
 *
 * @since 0.1.0
 * @category errors
 */
export class FernetTokenInvalid extends ActionableError<FernetTokenInvalid>()("FernetTokenInvalid", {
  reason: Schema.Literals(["Malformed", "NotAuthentic", "Expired", "FromFuture"])
}, {
  message: ({ reason }) => messages[reason],
  isRetryable: false,
  remedy: ({ reason }) => remedies[reason]
}) {}

const messages = {
  Malformed: "it is not a complete Fernet token",
  NotAuthentic: "it was written with another key, or altered",
  Expired: "it is older than allowed",
  FromFuture: "its time is ahead of this clock"
}

const remedies = {
  Malformed: "Check that the text is complete and unchanged.",
  NotAuthentic: "Use the key it was written with.",
  Expired: "Ask for a new token.",
  FromFuture: "Check the clocks of the writer and of this machine."
}
