/**
 * docker-compose.yml against a schema of what it uses (the Compose Specification's names and types), since no Docker
 * engine is here to read it; and the Dockerfile against what it copies.
 */
import { existsSync, readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { describe, expect, it } from 'vitest';
import { parse } from 'yaml';
import { z } from 'zod';

const root = (name: string) => fileURLToPath(new URL(`../${name}`, import.meta.url));
const read = (name: string) => readFileSync(root(name), 'utf8');

const duration = z.string().regex(/^(\d+(us|ms|s|m|h))+$/);
const healthcheck = z.strictObject({
  test: z.tuple([z.enum(['CMD', 'CMD-SHELL']), z.string()], z.string()),
  interval: duration,
  timeout: duration,
  retries: z.int().positive(),
});
const service = z
  .strictObject({
    image: z.string().optional(),
    build: z.string().optional(),
    environment: z.record(z.string().regex(/^[A-Z][A-Z0-9_]*$/), z.string()),
    depends_on: z.record(z.string(), z.strictObject({ condition: z.enum(['service_healthy']) })).optional(),
    ports: z.array(z.string().regex(/^127\.0\.0\.1:\d+:\d+$/, 'published on loopback only')).optional(),
    volumes: z.array(z.string().regex(/^[a-z]+:\/[a-z/]+$/)),
    read_only: z.boolean().optional(),
    tmpfs: z.array(z.string()).optional(),
    cap_drop: z.array(z.string()).optional(),
    security_opt: z.array(z.string()).optional(),
    ulimits: z.record(z.string(), z.int()).optional(),
    healthcheck,
    stop_grace_period: duration.optional(),
    restart: z.enum(['no', 'always', 'on-failure', 'unless-stopped']),
  })
  .refine((one) => (one.image === undefined) !== (one.build === undefined), 'an image or a build');
const compose = z.strictObject({
  services: z.record(z.string(), service),
  volumes: z.record(z.string(), z.null()),
});

describe('docker-compose.yml', () => {
  const document = compose.parse(parse(read('docker-compose.yml'), { strict: true, uniqueKeys: true }));

  it('names only services and volumes that it has', () => {
    for (const { depends_on = {}, volumes } of Object.values(document.services)) {
      for (const name of Object.keys(depends_on)) expect(document.services).toHaveProperty(name);
      for (const volume of volumes) expect(Object.keys(document.volumes)).toContain(volume.split(':')[0]);
    }
  });

  it('has no password of its own, and asks for one', () => {
    expect(document.services.database!.environment.POSTGRES_PASSWORD).toMatch(/^\$\{POSTGRES_PASSWORD:\?.+\}$/);
    expect(document.services.vault!.environment.BULLA_DATABASE_URL).toContain('$' + '{POSTGRES_PASSWORD}');
  });

  it('runs the vault without rights, on a root that cannot be written', () => {
    const { vault } = document.services;
    expect(vault).toMatchObject({ read_only: true, cap_drop: ['ALL'], security_opt: ['no-new-privileges:true'] });
  });

  it('gives the vault only settings that it knows', () => {
    const known = read('src/config.ts') + read('src/config-listener.ts');
    for (const name of Object.keys(document.services.vault!.environment)) expect(known).toContain(`${name}:`);
  });
});

describe('Dockerfile', () => {
  it('copies what there is, takes no root, and a Node line that is supported', () => {
    const text = read('Dockerfile');
    const copied = [...text.matchAll(/^COPY (?!--from)(.+) \S+$/gm)].flatMap((match) => match[1]!.split(' '));
    expect(copied.length).toBeGreaterThan(3);
    for (const name of copied) expect(existsSync(root(name)), name).toBe(true);
    const ignored = read('.dockerignore');
    for (const name of copied) expect(ignored).toContain(`!${name}`);
    expect(text).toMatch(/^USER node$/m);
    for (const [, major] of text.matchAll(/^FROM node:(\d+)/gm)) expect([22, 24, 26]).toContain(Number(major));
  });
});
