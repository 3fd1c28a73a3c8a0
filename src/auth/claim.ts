/**
 * What the claims of a proven identity are worth: rules from claims to policies. Pure.
 *
 *     {"claims": {"repository": ["acme/web"], "ref": ["refs/heads/*"], "/kubernetes.io/namespace": ["prod"]},
 *      "policies": ["deploy"]}
 *
 * A rule holds when every claim that it names fits one of its patterns. A claim is a top-level name, or a JSON pointer
 * (RFC 6901) when it begins with a slash. A text, number or boolean is compared as it is written, a list fits when one of
 * its members does, anything else and what is absent fits nothing. In a pattern `*` stands for any run of characters but
 * `/` and `:`, `**` for any run at all, everything else for itself; case counts.
 */
export type ClaimRule = {
  readonly claims: Readonly<Record<string, readonly string[]>>;
  readonly policies: readonly string[];
};

const VALUE_LENGTH_MAX = 1024;
const LIST_MAX = 1000;

/** The policies of all rules that hold; undefined when none does. */
export function policiesFor(
  rules: readonly ClaimRule[],
  claims: Readonly<Record<string, unknown>>,
): string[] | undefined {
  const holding = rules.filter((rule) =>
    Object.entries(rule.claims).every(([name, patterns]) => fits(claimAt(claims, name), patterns)),
  );
  return holding.length === 0 ? undefined : [...new Set(holding.flatMap(({ policies }) => policies))];
}

/** A text, number or boolean as it is written; undefined for anything else, for what is absent, and for what is too long. */
export function textAt(claims: Readonly<Record<string, unknown>>, name: string, lengthMax: number): string | undefined {
  const value = claimAt(claims, name);
  if (typeof value !== 'string' && typeof value !== 'number' && typeof value !== 'boolean') return undefined;
  const text = String(value);
  return text !== '' && text.length <= lengthMax ? text : undefined;
}

export function claimAt(claims: Readonly<Record<string, unknown>>, name: string): unknown {
  if (!name.startsWith('/')) return Object.hasOwn(claims, name) ? claims[name] : undefined;
  let at: unknown = claims;
  for (const part of name.slice(1).split('/')) {
    const key = part.replace(/~1/g, '/').replace(/~0/g, '~');
    if (typeof at !== 'object' || at === null || Array.isArray(at) || !Object.hasOwn(at, key)) return undefined;
    at = (at as Record<string, unknown>)[key];
  }
  return at;
}

function fits(value: unknown, patterns: readonly string[]): boolean {
  if (Array.isArray(value))
    return value.slice(0, LIST_MAX).some((member) => !Array.isArray(member) && fits(member, patterns));
  if (typeof value !== 'string' && typeof value !== 'number' && typeof value !== 'boolean') return false;
  const text = String(value);
  return text.length <= VALUE_LENGTH_MAX && patterns.some((pattern) => matches(pattern, text));
}

/** In time proportional to both lengths, whatever the pattern: `reached` is where in the text the pattern so far may end. */
export function matches(pattern: string, text: string): boolean {
  let reached = new Uint8Array(text.length + 1);
  reached[0] = 1;
  for (const token of pattern.match(/\*\*|[\s\S]/g) ?? []) {
    const next = new Uint8Array(text.length + 1);
    for (let at = 0; at <= text.length; at += 1) {
      if (token === '**' || token === '*') {
        const before = at > 0 && next[at - 1] === 1;
        const mayPass = at > 0 && (token === '**' || (text[at - 1] !== '/' && text[at - 1] !== ':'));
        next[at] = reached[at] === 1 || (before && mayPass) ? 1 : 0;
      } else if (at > 0 && reached[at - 1] === 1 && text[at - 1] === token) next[at] = 1;
    }
    reached = next;
  }
  return reached[text.length] === 1;
}
