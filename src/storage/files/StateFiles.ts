/**
 * The state of each credential in a file of its own. Authenticated, and not encrypted; it holds no secrets.
 */
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import { Buffer } from "node:buffer"
import { StorageRefused } from "../../errors/StorageError.ts"
import type { StorageInsecure, StorageIoFailed } from "../../errors/StorageError.ts"
import { CredentialState } from "../../model/CredentialState.ts"
import { canBeRead, escapedName, plainName } from "../format/names.ts"
import { decodeState } from "../format/StateRecord.ts"
import type { StateCodec } from "../format/StateRecord.ts"
import type { PrivateFiles, ReadableFile } from "./PrivateFiles.ts"

const suffix = ".json"
const maximumBytes = 64 * 1024

/** A state with the name of its file, if there is one. `plainIsTaken`: another id has the file with the plain name. */
export interface LocatedState {
  readonly name: string | undefined
  readonly state: CredentialState
  readonly plainIsTaken: boolean
}

export const noState: LocatedState = { name: undefined, state: CredentialState.initial, plainIsTaken: false }

/**
 * Reads the credential between two reads of the state that find one generation, so that no other process replaced it in between. Only
 * in the moment between the two renames of its save, the credential before can be read under the new generation.
 */
export const underOneGeneration = Effect.fnUntraced(function*<A, E, E2>(
  readState: Effect.Effect<CredentialState, E>,
  read: Effect.Effect<A, E2>
) {
  for (let before = yield* readState;;) {
    const content = yield* read
    const state = yield* readState
    if (state.generation === before.generation) return { content, state }
    before = state
  }
})

const textOf = (bytes: Uint8Array): string => Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length).toString("utf8")

/** The states of one folder. */
export class StateFiles {
  readonly #files: PrivateFiles
  readonly #folder: string
  readonly #codec: StateCodec

  constructor(files: PrivateFiles, folder: string, codec: StateCodec) {
    this.#files = files
    this.#folder = folder
    this.#codec = codec
  }

  fileOf(name: string): string {
    return this.#files.fileIn(this.#folder, `${name}${suffix}`)
  }

  #readText(name: string) {
    return this.#files.read(this.fileOf(name), maximumBytes).pipe(
      Effect.map(Option.map(textOf)),
      Effect.catchTag("FileTooLarge", () => Effect.succeedSome(""))
    )
  }

  /** The file of this name, to be read together with another one. */
  readable(name: string): ReadableFile {
    return { file: this.fileOf(name), limit: maximumBytes }
  }

  /** The state of this id, when that is what a file holds. */
  openOwn(id: string, bytes: Uint8Array): Option.Option<CredentialState> {
    return this.#codec.decode(id, textOf(bytes)).pipe(
      Option.filter((stored) => (stored.id ?? id) === id),
      Option.map(({ state }) => state)
    )
  }

  /** The state of an id. A file that is not a state is ignored, and may be replaced. */
  locate(
    id: string
  ): Effect.Effect<LocatedState, StorageIoFailed | StorageInsecure> {
    return Effect.gen({ self: this }, function*() {
      const plain = plainName(id)
      let damaged: string | undefined
      let plainIsTaken = false
      for (const name of canBeRead(plain) ? [plain, escapedName(id)] : [escapedName(id)]) {
        const text = yield* this.#readText(name)
        if (Option.isNone(text)) continue
        const stored = this.#codec.decode(id, text.value)
        if (Option.isNone(stored)) damaged ??= name
        else if ((stored.value.id ?? id) === id) return { name, state: stored.value.state, plainIsTaken }
        else plainIsTaken ||= name === plain
      }
      return { name: damaged, state: CredentialState.initial, plainIsTaken }
    })
  }

  /** Refuses a state that is too large to be read again: without its generation, any writer would pass for the first. */
  #encode(id: string, state: CredentialState) {
    const bytes = Buffer.from(this.#codec.encode(id, state))
    return bytes.length <= maximumBytes
      ? Effect.succeed(bytes)
      : Effect.fail(new StorageRefused({ detail: "the state of the credential is too large: it may have 64 KiB" }))
  }

  prepare(name: string, id: string, state: CredentialState) {
    return Effect.flatMap(this.#encode(id, state), (bytes) => this.#files.prepare(this.fileOf(name), bytes))
  }

  write<E>(name: string, id: string, state: CredentialState, check: Effect.Effect<void, E>) {
    return Effect.flatMap(this.#encode(id, state), (bytes) => this.#files.write(this.fileOf(name), bytes, check))
  }

  /** The record of a file under the first key; none where it is so already, or nobody vouches for it. */
  #reencoded(name: string) {
    return Effect.map(
      this.#readText(name),
      (text) =>
        Option.flatMap(
          text,
          (text) =>
            Option.flatMap(decodeState(text), ({ id }) =>
              Option.fromUndefinedOr(id === undefined ? undefined : this.#codec.reencode(id, text)))
        )
    )
  }

  isStale(name: string) {
    return Effect.map(this.#reencoded(name), Option.isSome)
  }

  /** Puts the record of a file under the first key. */
  reencode<E>(name: string, check: Effect.Effect<void, E>) {
    return Effect.flatMap(
      this.#reencoded(name),
      Option.match({
        onNone: () => Effect.void,
        onSome: (text) => this.#files.write(this.fileOf(name), Buffer.from(text), check)
      })
    )
  }

  remove(name: string) {
    return this.#files.remove(this.fileOf(name))
  }

  get names() {
    return this.#files.names(this.#folder, suffix)
  }
}
