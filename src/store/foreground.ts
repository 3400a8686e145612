import * as Context from "effect/Context"

/**
 * Whether a read waits for the renewal that it starts, although what is at hand has not expired: a program that ends right
 * after, such as a command, wants the new token.
 */
export const WaitsForRenewal = Context.Reference<boolean>("aden-credentials/internal/WaitsForRenewal", {
  defaultValue: () => false
})
