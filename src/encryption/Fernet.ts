/**
 * The token format of the encrypted files: AES-128-CBC with HMAC-SHA256, see https://github.com/fernet/spec.
 *
 * Decoding is strict: a token has exactly one spelling, so any changed or missing character is an error. (Python's implementation
 * skips characters outside the alphabet, and accepts standard base64 for URL-safe base64.)
 *
 * @since 0.1.0
 */
import * as Clock from "effect/Clock"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Redacted from "effect/Redacted"
import { Buffer } from "node:buffer"
import { createCipheriv, createDecipheriv, createHmac, randomBytes, timingSafeEqual } from "node:crypto"
import { AdenConfigError } from "../errors/ConfigError.ts"
import { FernetTokenInvalid } from "../errors/EncryptionError.ts"

/**
 * A parsed key, see {@link Fernet.parseKey}.
 *
 * @since 0.1.0
 * @category models
 */
export type FernetKey = Redacted.Redacted<{ readonly signing: Uint8Array; readonly encryption: Uint8Array }>

/**
 * One or more keys: the first encrypts, all decrypt.
 *
 * @since 0.1.0
 * @category models
 */
export type FernetKeys = readonly [FernetKey, ...ReadonlyArray<FernetKey>]

/**
 * Encrypts and decrypts Fernet tokens.
 *
 * @example
 * ```ts
 * import { Fernet } from "aden-credentials"
 * import { Effect } from "effect"
 *
 * const program = Effect.gen(function*() {
 *   const key = yield* Fernet.parseKey(yield* Fernet.generateKey)
 *   const token = yield* Fernet.encrypt([key], new TextEncoder().encode("hello"))
 *   return yield* Fernet.decrypt([key], token)
 * })
 * ```
 *
 * @since 0.1.0
 * @category codecs
 */
export class Fernet {
  /** A new random key as text, as it is set and stored. */
  static readonly generateKey: Effect.Effect<Redacted.Redacted<string>> = Effect.sync(() =>
    Redacted.make(toPaddedBase64Url(randomBytes(keyLength)))
  )

  /**
   * Parses a key: URL-safe base64 of 32 random bytes, padded. Fails with `AdenConfigError`, which names `setting`, the setting that
   * the key came from (`HIVE_CREDENTIAL_KEY` by default).
   */
  static readonly parseKey = (
    text: Redacted.Redacted<string>,
    setting = "HIVE_CREDENTIAL_KEY"
  ): Effect.Effect<FernetKey, AdenConfigError> =>
    Effect.suspend(() => {
      const bytes = fromPaddedBase64Url(Redacted.value(text))
      if (bytes === undefined || bytes.length !== keyLength) {
        return Effect.fail(
          new AdenConfigError({ setting, detail: keyFault(Redacted.value(text)), remedy: keyRemedy })
        )
      }
      if (new Set(bytes).size < leastBytes) {
        return Effect.fail(
          new AdenConfigError({
            setting,
            detail: "is not a random key: it repeats the same few bytes, so that anyone can guess it",
            remedy: "Make a new one: aden-creds keys generate"
          })
        )
      }
      return Effect.succeed(Redacted.make({
        // copies: a part of Node's pool of buffers would keep all of its 8 KB
        signing: new Uint8Array(bytes.subarray(0, 16)),
        encryption: new Uint8Array(bytes.subarray(16))
      }))
    })

  /** Encrypts with the first key and a random IV. The token holds the time of the `Clock` in seconds, readable without the key. */
  static readonly encrypt = (keys: FernetKeys, plaintext: Uint8Array): Effect.Effect<string> =>
    Effect.map(Clock.currentTimeMillis, (now) => encryptWith(keys[0], plaintext, now, randomBytes(ivLength)))

  /**
   * Decrypts with the first key that fits. With `ttl`, refuses a token that is older, or more than a minute ahead of the `Clock`;
   * without it, the token's time does not matter.
   */
  static readonly decrypt = (
    keys: FernetKeys,
    token: string,
    options?: { readonly ttl?: Duration.Input | undefined }
  ): Effect.Effect<Uint8Array, FernetTokenInvalid> =>
    Effect.flatMap(Clock.currentTimeMillis, (now) => {
      const data = fromPaddedBase64Url(token)
      if (data === undefined || !hasTokenShape(data)) return invalid("Malformed")
      const key = keys.find((key) => isAuthentic(key, data))
      if (key === undefined) return invalid("NotAuthentic")
      if (options?.ttl !== undefined) {
        const age = Math.floor(now / 1000) - Number(data.readBigUInt64BE(1))
        if (age > Duration.toSeconds(options.ttl)) return invalid("Expired")
        if (age < -maximumClockSkew) return invalid("FromFuture")
      }
      const plaintext = decryptWith(key, data)
      return plaintext === undefined ? invalid("Malformed") : Effect.succeed(plaintext)
    })
}

// internal

const version = 0x80
const keyLength = 32
/** How many different bytes a key has. Random ones have some thirty, and fewer than this once in 10^36 keys. */
const leastBytes = 8
const ivLength = 16
const blockLength = 16
const macLength = 32
/** Version, time and IV. */
const headerLength = 1 + 8 + ivLength
/** In seconds, as the specification says. */
const maximumClockSkew = 60

const keyRemedy =
  "Set it to the Fernet key that your credentials were written with, or make a new one: aden-creds keys generate"

const invalid = (reason: FernetTokenInvalid["reason"]) => Effect.fail(new FernetTokenInvalid({ reason }))

const toPaddedBase64Url = (bytes: Uint8Array): string => {
  const text = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString("base64url")
  return text.padEnd(Math.ceil(text.length / 4) * 4, "=")
}

/** The inverse of `toPaddedBase64Url`; `undefined` for any other spelling of the bytes. */
const fromPaddedBase64Url = (text: string): Buffer | undefined => {
  const bytes = Buffer.from(text, "base64url")
  return toPaddedBase64Url(bytes) === text ? bytes : undefined
}

/** What is wrong with a text that is not a key, without quoting any of it. */
const keyFault = (text: string): string => {
  if (text === "") return "is empty"
  if (text !== text.trim()) return "has white space around the key"
  if (/^[A-Za-z0-9+/]{43}=$/.test(text)) {
    return "is base64 of the standard alphabet, not of the URL-safe one (- for +, _ for /)"
  }
  return "is not a Fernet key (URL-safe base64 of 32 bytes: 44 characters)"
}

const hasTokenShape = (data: Buffer): boolean => {
  const ciphertextLength = data.length - headerLength - macLength
  return data[0] === version && ciphertextLength >= blockLength && ciphertextLength % blockLength === 0
}

const mac = (key: FernetKey, signed: Uint8Array): Buffer =>
  createHmac("sha256", Redacted.value(key).signing).update(signed).digest()

const isAuthentic = (key: FernetKey, data: Buffer): boolean =>
  timingSafeEqual(mac(key, data.subarray(0, -macLength)), data.subarray(-macLength))

/**
 * Encrypts with a given time (in ms) and IV.
 *
 * @internal
 */
export const encryptWith = (key: FernetKey, plaintext: Uint8Array, now: number, iv: Uint8Array): string => {
  const header = Buffer.alloc(headerLength)
  header.writeUInt8(version, 0)
  header.writeBigUInt64BE(BigInt(Math.max(0, Math.floor(now / 1000))), 1)
  header.set(iv, headerLength - ivLength)
  const cipher = createCipheriv("aes-128-cbc", Redacted.value(key).encryption, iv)
  const signed = Buffer.concat([header, cipher.update(plaintext), cipher.final()])
  return toPaddedBase64Url(Buffer.concat([signed, mac(key, signed)]))
}

/** `undefined` when the padding is wrong, which no writer with the key produces. */
const decryptWith = (key: FernetKey, data: Buffer): Uint8Array | undefined => {
  const iv = data.subarray(headerLength - ivLength, headerLength)
  const decipher = createDecipheriv("aes-128-cbc", Redacted.value(key).encryption, iv)
  try {
    return Buffer.concat([decipher.update(data.subarray(headerLength, -macLength)), decipher.final()])
  } catch {
    return undefined
  }
}
