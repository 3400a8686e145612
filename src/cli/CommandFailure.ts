/**
 * Everything that a command can fail with.
 */
import * as Schema from "effect/Schema"
import type {
  Actionable,
  AdenConfigError,
  AdenFailure,
  CredentialFailure,
  CredentialKeyNotFound,
  NoProvider
} from "../CredentialError.ts"

/** What was printed did not arrive: the disk is full, say. */
export class OutputFailed extends Schema.TaggedError<OutputFailed>()("OutputFailed", {
  detail: Schema.String
}) implements Actionable {
  override get message(): string {
    return `The output cannot be written: ${this.detail}`
  }
  get isRetryable(): boolean {
    return false
  }
  get remedy(): string {
    return "Check where the output is sent to."
  }
}

export type CommandFailure =
  | AdenConfigError
  | AdenFailure
  | CredentialFailure
  | CredentialKeyNotFound
  | NoProvider
  | OutputFailed
