/**
 * The text of one member within a JSON text, as it was written. JSON.parse would round numbers beyond 2^53, and a
 * secret must come out as it went in.
 */

/** Strings, marks, and what is between them. Only for texts that JSON.parse has taken. */
const TOKEN = /"(?:[^"\\]|\\.)*"|[{}[\]:,]|[^\s{}[\]:,"]+/g;

/** The text of the value at a path of keys, or undefined when there is none. Of equal keys the last counts. */
export function sourceOf(json: string, keys: readonly string[]): string | undefined {
  let text: string | undefined = json;
  for (const key of keys) text = text === undefined ? undefined : memberOf(text, key);
  return text;
}

function memberOf(json: string, wanted: string): string | undefined {
  return membersOf(json).get(wanted);
}

/** Every member of an object with the text of its value. Of equal keys the last counts. */
export function membersOf(json: string): Map<string, string> {
  const members = new Map<string, string>();
  let depth = 0;
  let key: string | undefined;
  let last = '';
  let start = -1;
  for (const match of json.matchAll(TOKEN)) {
    const [token] = match;
    const ends = depth === 1 && (token === ',' || token === '}');
    if (ends && key !== undefined && start >= 0) members.set(key, json.slice(start, match.index).trim());
    if (ends) key = undefined;
    else if (depth === 1 && token === ':' && key === undefined) {
      key = JSON.parse(last) as string;
      start = match.index + 1;
    }
    if (token === '{' || token === '[') depth += 1;
    if (token === '}' || token === ']') depth -= 1;
    last = token;
  }
  return members;
}

/** The text without the blanks between its tokens. */
export function tokensOf(json: string): string {
  return Array.from(json.matchAll(TOKEN), ([token]) => token).join('');
}
