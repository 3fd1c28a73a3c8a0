/** Of recheck, the part that is JavaScript alone: nothing of its native programs is run. */
declare module 'recheck/lib/browser.js' {
  type Verdict = {
    readonly status: 'safe' | 'vulnerable' | 'unknown';
    readonly complexity?: { readonly summary: string };
    readonly attack?: { readonly pattern: string };
  };
  const recheck: {
    checkSync(source: string, flags: string, parameters?: { readonly timeout?: number }): Verdict;
  };
  export default recheck;
}
