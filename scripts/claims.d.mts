/** What is wrong with a page whose claims name the tests that show them, and how many of both there are. */
export declare const claimFaults: (page: {
  /** The sections in which an item or a row need not name a test. */
  readonly exempt: ReadonlyArray<string>
  /** The path of the page in the repository. */
  readonly page: string
  /** The text of a file of the repository, if it is there. */
  readonly sourceOf: (file: string) => string | undefined
  readonly text: string
}) => {
  readonly claims: number
  readonly faults: ReadonlyArray<{ readonly line: number; readonly message: string }>
  readonly tests: number
}
