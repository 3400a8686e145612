/**
 * TLS to databases: what is wrong with a certificate, and how to fix it.
 */
import * as Predicate from "effect/Predicate"

const certificateCode = /CERT|^UNABLE_TO_|^HOSTNAME_MISMATCH$|^INVALID_(?:CA|PURPOSE)$/

/** Whether a connection failed because this machine does not trust the server's certificate. */
export const isUntrusted = (cause: unknown): boolean =>
  Predicate.hasProperty(cause, "code") && Predicate.isString(cause.code) && certificateCode.test(cause.code)

/** How to fix a certificate that is not trusted. */
export const untrustedRemedy =
  "Use the host name that the certificate is for, and make its authority known: by NODE_EXTRA_CA_CERTS, the path of a PEM file"
