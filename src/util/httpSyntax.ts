/** Checks of HTTP header fields and of URLs. */

const fieldName = /^[!#$%&'*+.^_`|~0-9A-Za-z-]+$/

/** What is wrong with a header's name, without quoting it; `undefined` when it can be sent. */
export const headerNameFault = (name: string): string | undefined =>
  fieldName.test(name)
    ? undefined
    : "the header's name is empty or holds a character that is not allowed in header names"

/** What is wrong with a header's value, without quoting it; `undefined` when it can be sent. */
export const headerValueFault = (value: string): string | undefined => {
  // header injection: a line break would start another header, or a second request
  if (/[\r\n]/.test(value)) return "the value holds a line break"
  if (/[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]/.test(value)) return "the value holds a control character"
  // clients and servers disagree on its encoding, and some refuse it
  return /[^\x09\x20-\x7e]/.test(value) ? "the value holds a character outside ASCII" : undefined
}

const loopback = /^(?:localhost|\[::1\]|::1|127(?:\.(?:25[0-5]|2[0-4]\d|1?\d?\d)){3})$/i

/**
 * Whether a host is this machine: `localhost`, 127.0.0.0/8 or `::1`, with or without brackets. Other spellings of these addresses
 * count as another machine.
 */
export const isLoopbackHost = (host: string): boolean => loopback.test(host)

/** Whether a URL's host is this machine. */
export const isLoopback = (url: URL): boolean => isLoopbackHost(url.hostname)

/** The URL of a page that a person may be sent to: https, or http to this machine, without user info. `undefined` for any other. */
export const pageUrl = (text: string | null | undefined): string | undefined => {
  if (text === undefined || text === null || text.length > 2000 || !URL.canParse(text)) return undefined
  const url = new URL(text)
  const allowed = url.protocol === "https:" || (url.protocol === "http:" && isLoopback(url))
  return allowed && url.username === "" && url.password === "" ? url.href : undefined
}

/** The target of a `Location` header in the answer to `asked`; `undefined` when it is missing or not a URL. */
export const locationUrl = (location: string | undefined, asked: URL): URL | undefined =>
  location === undefined || location === "" || !URL.canParse(location, asked.href)
    ? undefined
    : new URL(location, asked)
