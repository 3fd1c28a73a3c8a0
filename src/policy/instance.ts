/** A policy with templates, as it is for one account. */
import { compileGlob, type Glob } from './glob.ts';
import { type CompiledPolicy, policyOf } from './policy.ts';
import { fillTemplate, type TemplateValues } from './template.ts';

/** Undefined when some template does not come out as a pattern: then nothing at all may be decided by the policy. */
export function instanceFor(policy: CompiledPolicy, values: TemplateValues): CompiledPolicy | undefined {
  if (!policy.templated) return policy;
  const rules = [];
  for (const rule of policy.rules) {
    const resources: Glob[] = [];
    for (const glob of rule.resources) {
      const filled = glob.kind === 'template' ? filledGlob(glob.text, values) : glob;
      if (filled === undefined) return undefined;
      resources.push(filled);
    }
    rules.push({ ...rule, resources });
  }
  return policyOf(rules);
}

function filledGlob(text: string, values: TemplateValues): Glob | undefined {
  const filled = fillTemplate(text, values);
  const glob = filled === undefined ? undefined : compileGlob(filled);
  return typeof glob === 'string' ? undefined : glob;
}
