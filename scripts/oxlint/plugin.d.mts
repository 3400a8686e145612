/** What is wrong with a file of `src` importing a specifier, both as the file writes them; `undefined` where nothing is. */
export declare const importFault: (file: string, specifier: string, isType?: boolean) => string | undefined

/** What is wrong with a file of `src` importing a name of a module as a value, `*` for all of them; `undefined` where nothing is. */
export declare const entryFault: (file: string, specifier: string, name: string) => string | undefined
