/**
 * Everything that a command can fail with.
 */
import * as Predicate from "effect/Predicate"
import * as Schema from "effect/Schema"
import type { Actionable } from "../errors/Actionable.ts"
import type { AdenFailure } from "../errors/AdenError.ts"
import type { AdenConfigError } from "../errors/ConfigError.ts"
import type { CredentialFailure, CredentialKeyNotFound, NoProvider } from "../errors/CredentialError.ts"

/** Output could not be written, for example because the disk is full. */
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
    return "Check where the output goes."
  }
}

/** The command given to `exec` does not exist or cannot be run. */
export class CommandNotRun extends Schema.TaggedError<CommandNotRun>()("CommandNotRun", {
  command: Schema.String,
  isMissing: Schema.Boolean,
  detail: Schema.String
}) implements Actionable {
  static from(command: string, error: unknown): CommandNotRun {
    const code = Predicate.hasProperty(error, "code") && typeof error.code === "string" ? error.code : "unknown"
    return new CommandNotRun({ command, isMissing: code === "ENOENT", detail: code })
  }
  override get message(): string {
    return this.isMissing
      ? `There is no command ${JSON.stringify(this.command)}`
      : `The command ${JSON.stringify(this.command)} cannot be run: ${this.detail}`
  }
  get isRetryable(): boolean {
    return false
  }
  get remedy(): string {
    return this.isMissing
      ? "Check its spelling and PATH. A shell's built-in commands need the shell: exec … -- sh -c \"…\"."
      : "Check that the file is a program and that you may run it."
  }
}

/** The input of `git-credential` does not follow git's protocol. */
export class GitProtocolError extends Schema.TaggedError<GitProtocolError>()("GitProtocolError", {
  detail: Schema.String
}) implements Actionable {
  override get message(): string {
    return `The input is not what git writes to a credential helper: ${this.detail}`
  }
  get isRetryable(): boolean {
    return false
  }
  get remedy(): string {
    return "Let git call it: git config --global credential.helper '!aden-creds git-credential'."
  }
}

/** A token that does not fit on one line of git's protocol. */
export class TokenNotForGit extends Schema.TaggedError<TokenNotForGit>()("TokenNotForGit", {
  ref: Schema.String
}) implements Actionable {
  override get message(): string {
    return `The token of ${
      JSON.stringify(this.ref)
    } cannot be passed to git: it contains a control character or a line break`
  }
  get isRetryable(): boolean {
    return false
  }
  get remedy(): string {
    return "Save the token again without it, or reconnect the integration."
  }
}

export type CommandFailure =
  | AdenConfigError
  | AdenFailure
  | CredentialFailure
  | CredentialKeyNotFound
  | CommandNotRun
  | GitProtocolError
  | NoProvider
  | OutputFailed
  | TokenNotForGit
