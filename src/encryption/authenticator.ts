/**
 * Authenticates what is stored in plain text, with the keys that encrypt what is not: HMAC-SHA256. Its keys are derived from those
 * for one purpose, so that no code is valid for anything else.
 */
import * as Redacted from "effect/Redacted"
import { Buffer } from "node:buffer"
import { createHmac, timingSafeEqual } from "node:crypto"
import type { FernetKey, FernetKeys } from "./Fernet.ts"

/** A code as text: URL-safe base64 of 32 bytes, without padding. */
export const codePattern = "[A-Za-z0-9_-]{43}"

const derive = (key: FernetKey, purpose: string): Buffer =>
  createHmac("sha256", Redacted.value(key).signing).update(purpose).digest()

const codeOf = (key: Buffer, text: string): string => createHmac("sha256", key).update(text).digest("base64url")

const isCodeOf = (key: Buffer, text: string, code: Uint8Array): boolean =>
  timingSafeEqual(createHmac("sha256", key).update(text).digest(), code)

/** The keys are derived once: the first one signs, all verify. A new purpose makes all older codes invalid. */
export class Authenticator {
  readonly #keys: readonly [Buffer, ...ReadonlyArray<Buffer>]

  constructor([first, ...others]: FernetKeys, purpose: string) {
    this.#keys = [derive(first, purpose), ...others.map((key) => derive(key, purpose))]
  }

  sign(text: string): string {
    return codeOf(this.#keys[0], text)
  }

  /** Whether this is the code of a text under one of the keys; `isFirst`: under the first one. */
  verify(text: string, code: string): { readonly isAuthentic: boolean; readonly isFirst: boolean } {
    const bytes = Buffer.from(code, "base64url")
    const at = bytes.length === 32 ? this.#keys.findIndex((key) => isCodeOf(key, text, bytes)) : -1
    return { isAuthentic: at >= 0, isFirst: at === 0 }
  }
}
