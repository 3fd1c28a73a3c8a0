/** What may be asked for of a token: the checks that everything has in common that gives one or bounds one. */
import { LIMITS } from '../config.ts';
import { VaultError } from '../errors.ts';
import { parseCidr } from '../policy/cidr.ts';
import type { Vault } from '../vault.ts';
import type { TokenSettings } from './token-setting.ts';

/** Throws `invalid_request`. */
export function checkTokenSettings({ config }: Vault, settings: TokenSettings): void {
  const refuse = (text: string) => {
    throw new VaultError('invalid_request', text);
  };
  const { tokenTtlSeconds: ttl, tokenPeriodSeconds: period, tokenMaxTtlSeconds: maxTtl } = settings;
  if (ttl !== null && period !== null) refuse('Give either token_ttl or token_period, not both; null takes one away.');
  const most = config.tokenMaxTtlSeconds;
  for (const [field, seconds] of [
    ['token_ttl', ttl] as const,
    ['token_period', period] as const,
    ['token_max_ttl', maxTtl] as const,
  ]) {
    if (seconds !== null && !(Number.isInteger(seconds) && seconds >= 1 && seconds <= most)) {
      refuse(`${field}: expected from 1 second to ${most} seconds.`);
    }
  }
  if (maxTtl !== null && ttl !== null && ttl > maxTtl) refuse('token_ttl: expected at most token_max_ttl.');
  if (settings.tokenExplicitMaxTtlSeconds !== null) checkExplicitMaxTtl(settings.tokenExplicitMaxTtlSeconds);
  if (settings.tokenUses !== null) checkUses(settings.tokenUses, 'token_uses');
  checkCidrs(settings.tokenCidrs ?? undefined);
}

/** Throws `invalid_request`. */
export function checkUses(uses: number, field: string): void {
  if (Number.isInteger(uses) && uses >= 1 && uses <= LIMITS.tokenUsesMax) return;
  throw new VaultError('invalid_request', `${field}: expected a whole number from 1 to ${LIMITS.tokenUsesMax}.`);
}

/** Throws `invalid_request`. */
export function checkExplicitMaxTtl(seconds: number): void {
  const most = LIMITS.tokenExplicitMaxTtlSecondsMax;
  if (Number.isInteger(seconds) && seconds >= 1 && seconds <= most) return;
  throw new VaultError('invalid_request', `explicit_max_ttl: expected from 1 second to ${most} seconds.`);
}

/** Throws `invalid_request`. */
export function checkMetadata(metadata: Readonly<Record<string, string>>): void {
  const most = LIMITS.tokenMetadataBytesMax;
  if (Buffer.byteLength(JSON.stringify(metadata)) <= most) return;
  throw new VaultError('invalid_request', `metadata: expected at most ${most} bytes.`);
}

/** Networks that something may be used from. Throws `invalid_request`. */
export function checkCidrs(cidrs: readonly string[] | undefined): void {
  if (cidrs === undefined) return;
  if (cidrs.length < 1 || cidrs.length > LIMITS.tokenCidrsMax || !cidrs.every((text) => parseCidr(text))) {
    throw new VaultError(
      'invalid_request',
      `cidrs: expected from 1 to ${LIMITS.tokenCidrsMax} networks such as 10.0.0.0/8 or ::1/128, with no bit set beyond the prefix.`,
    );
  }
}
