/** A path as a word of a shell's command. */
export const shellQuote = (path: string): string => `'${path.replaceAll("'", "'\\''")}'`
