/**
 * Templates in resource patterns: `secret:people/${user.name}/**` is another pattern for each account.
 *
 * What stands in the place of a template is text of one segment and never more: letters, digits and `. _ ~ @ + = -`,
 * not empty, without `..`, compared as it is. An account that does not fit makes the whole policy unusable, and an
 * unusable policy denies everything (T-064): a deny that was left out, or an allow that became wider, would be a hole.
 */

/** What a template may name. */
const TEMPLATE_NAMES = ['user.name', 'user.id', 'user.kind'] as const;
export type TemplateValues = Readonly<Record<(typeof TEMPLATE_NAMES)[number], string>>;

const TEMPLATE = /\$\{(user\.(?:name|id|kind))\}/g;
const VALUE = /^[A-Za-z0-9._~@+=-]{1,128}$/;

export function hasTemplate(pattern: string): boolean {
  return pattern.includes('${');
}

/** The text with the same text in the place of every template. */
export function withEachTemplateAs(pattern: string, text: string): string {
  return hasTemplate(pattern) ? pattern.replace(TEMPLATE, () => text) : pattern;
}

/** The pattern for one account, or undefined when a value does not fit. Only values are looked at: see glob.ts. */
export function fillTemplate(pattern: string, values: TemplateValues): string | undefined {
  let fits = true;
  const filled = pattern.replace(TEMPLATE, (_, name: keyof TemplateValues) => {
    const value = values[name];
    if (VALUE.test(value) && !value.includes('..') && value !== '.') return value;
    fits = false;
    return '';
  });
  return fits ? filled : undefined;
}
