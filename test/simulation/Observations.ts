/**
 * What is observed of a run: what the program asks a store, what a store asks its provider, and what came of it.
 */
import type { ProviderAccount } from "../../src/model/Credential.ts"
import type { Server } from "./Program.ts"
import type { Exchange } from "./ScriptedAden.ts"

/** A violation, with the name of the broken rule. */
export interface Violation {
  readonly rule: string
  readonly detail: string
  readonly step: number
}

export type OperationKind =
  | "read"
  | "refresh"
  | "validate"
  | "explain"
  | "invalidate"
  | "save"
  | "delete"
  | "sync"
  | "lasting"
  | "follow"
  | "require"
  | "await"
  | "call"

/**
 * Something that the program asked a store to do. `sequence` orders it among all that happens; `timer` is time that only timers
 * see.
 */
export interface Operation {
  readonly number: number
  readonly kind: OperationKind
  readonly instance: number
  readonly ref: string
  readonly step: number
  readonly sequence: number
  readonly timer: number
  readonly now: number
  readonly clockOffset: number
  isPending: boolean
  isInterrupted: boolean
  /** For how long it may go on at most, in ms; `undefined`: as its kind says. */
  readonly longest?: number | undefined
  /** How long the token that it asks for has to last, in ms. */
  readonly minTimeLeft?: number | undefined
}

export type CallKind = "fetch" | "refresh" | "validate" | "list"

/** A question that a store asks its provider. It may take several requests. */
export interface Call {
  readonly instance: number
  readonly kind: CallKind
  readonly id: string | undefined
  readonly operation: Operation | undefined
  /** The provider that is asked. */
  readonly server?: Server | undefined
  readonly sequence: number
  readonly isBackground: boolean
  /** Another question about the same credential was under way at the same time. */
  isOverlapped: boolean
  /** The program changed the credential during the call. */
  isOvertaken: boolean
  readonly exchanges: Array<Exchange>
}

/** What a question was answered. */
export type CallResult =
  | { readonly _tag: "Token"; readonly value: string; readonly expiresAt: number | undefined }
  | { readonly _tag: "Nothing" }
  | { readonly _tag: "Validity"; readonly isValid: boolean; readonly isBlocked: boolean }
  | {
    readonly _tag: "List"
    readonly ids: ReadonlyArray<string>
    readonly accounts?: ReadonlyArray<ProviderAccount> | undefined
  }
  | { readonly _tag: "Failure"; readonly tag: string; readonly retryAfter: number | undefined }
  | { readonly _tag: "Interrupted" }
  | { readonly _tag: "Defect"; readonly message: string }

/** What came of an operation. */
export type OperationResult =
  | { readonly _tag: "Token"; readonly value: string; readonly expiresAt: number | undefined | "unknown" }
  | { readonly _tag: "Done" }
  | { readonly _tag: "Failure"; readonly tag: string; readonly retryAfter: number | undefined }
  | { readonly _tag: "Interrupted" }
  | { readonly _tag: "Defect"; readonly message: string }
