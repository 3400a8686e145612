/**
 * What is handed to the store from outside, made as harmless as an answer of Aden's is when it arrives. Whoever can write where
 * state records are kept needs no key for it, and a provider of the program's own may repeat what a server says: neither is
 * believed more than Aden.
 */
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import { AdenProtocolError, AdenUnavailable, RateLimited, ReauthRequired } from "../errors/AdenError.ts"
import { CredentialStorageError } from "../errors/StorageError.ts"
import type { CredentialValidation } from "../model/Credential.ts"
import { Credential } from "../model/Credential.ts"
import { CredentialState } from "../model/CredentialState.ts"
import { longestRateLimit } from "../model/freshness.ts"
import { ProviderDecorator } from "../providers/CredentialProvider.ts"
import type { CredentialProvider } from "../providers/CredentialProvider.ts"
import type { CredentialStorage } from "../storage/CredentialStorage.ts"
import { StorageDecorator } from "../storage/decorate.ts"
import { pageUrl } from "../util/httpSyntax.ts"
import { logError } from "../util/logging.ts"
import { cleanMessage } from "../util/sanitize.ts"

type Storage = CredentialStorage["Service"]

const cleaned = (text: string | undefined): string | undefined => text === undefined ? undefined : cleanMessage(text)

/** The tag of an error; anything else is none. */
const errorTag = (text: string | undefined): string | undefined =>
  text !== undefined && /^[A-Za-z]\w{0,99}$/.test(text) ? text : undefined

/** A state record without what no answer of Aden's could have put there. Whose it is stays as it is: refs are compared with it. */
const checkedState = (state: CredentialState): CredentialState => {
  const checked = {
    reauthorizationUrl: pageUrl(state.reauthorizationUrl),
    lastError: errorTag(state.lastError)
  }
  return checked.reauthorizationUrl === state.reauthorizationUrl && checked.lastError === state.lastError
    ? state
    : new CredentialState({ ...state, ...checked })
}

const checkedRefusal = ({ detail, id, reauthorizationUrl: url }: ReauthRequired): ReauthRequired =>
  new ReauthRequired({ id, reauthorizationUrl: pageUrl(url), detail: cleaned(detail) })

/** A rate limit that ends in due time. */
const checkedLimit = <E extends { readonly _tag: string }>(error: E): E | RateLimited =>
  error instanceof RateLimited && Duration.isGreaterThan(error.retryAfter, longestRateLimit)
    ? new RateLimited({ id: error.id, retryAfter: longestRateLimit })
    : error

const checkedFailure = <E extends { readonly _tag: string }>(error: E): E | ReauthRequired | RateLimited =>
  error instanceof ReauthRequired ? checkedRefusal(error) : checkedLimit(error)

const checkedStorageFailure = <E extends { readonly _tag: string }>(error: E): E | CredentialStorageError =>
  error instanceof CredentialStorageError && error.reason instanceof ReauthRequired
    ? new CredentialStorageError({ id: error.id, operation: error.operation, reason: checkedRefusal(error.reason) })
    : error

const checkedValidation = (validation: CredentialValidation): CredentialValidation => ({
  ...validation,
  reason: cleaned(validation.reason),
  reauthorizationUrl: pageUrl(validation.reauthorizationUrl)
})

/** A storage, whoever wrote it and whatever is kept there. */
export const checkedStorage = (storage: Storage): Storage => new CheckedStorage(storage)

class CheckedStorage extends StorageDecorator {
  override read(id: string) {
    return Effect.mapError(
      Effect.map(this.inner.read(id), ({ credential, state }) => ({ credential, state: checkedState(state) })),
      checkedStorageFailure
    )
  }

  override load(id: string) {
    return Effect.mapError(this.inner.load(id), checkedStorageFailure)
  }

  override loadState(id: string) {
    return Effect.map(this.inner.loadState(id), checkedState)
  }
}

/** A provider that dies has not answered: the store waits before it asks again, as after any other failure. */
const surviving = <A, E>(id: string | undefined, answer: Effect.Effect<A, E>): Effect.Effect<A, E | AdenUnavailable> =>
  Effect.catchDefect(answer, (defect) =>
    Effect.andThen(
      logError("A credential provider died", defect),
      Effect.fail(
        new AdenUnavailable({
          ...(id === undefined ? {} : { id }),
          reason: new AdenProtocolError({ detail: "the provider died; the log says of what", isTransient: false })
        })
      )
    ))

/** A provider, whoever wrote it and whatever its server says. */
export const checkedProvider = (provider: CredentialProvider): CredentialProvider => new CheckedProvider(provider)

class CheckedProvider extends ProviderDecorator {
  /** A credential with its issuer. */
  #issued(credential: Credential): Effect.Effect<Credential> {
    return this.issuer === undefined
      ? Effect.succeed(credential)
      : Effect.map(this.issuer, (issuer) => new Credential({ ...credential, issuer }))
  }

  override refresh(credential: Credential) {
    const answer = Effect.flatMap(this.inner.refresh(credential), (answered) => this.#issued(answered))
    return surviving(credential.id, Effect.mapError(answer, checkedFailure))
  }

  override validate(credential: { readonly id: string }) {
    return surviving(
      credential.id,
      Effect.mapError(Effect.map(this.inner.validate(credential), checkedValidation), checkedFailure)
    )
  }

  override fetch(id: string) {
    const answer = Effect.flatMap(
      this.inner.fetch(id),
      Option.match({
        onNone: () => Effect.succeedNone,
        onSome: (answered) => Effect.asSome(this.#issued(answered))
      })
    )
    return surviving(id, Effect.mapError(answer, checkedFailure))
  }

  override get list() {
    return surviving(undefined, Effect.mapError(this.inner.list, checkedLimit))
  }
}
