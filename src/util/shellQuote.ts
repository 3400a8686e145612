/** A path as one word of a shell command. */
export const shellQuote = (path: string): string => `'${path.replaceAll("'", "'\\''")}'`
