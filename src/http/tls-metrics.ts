/**
 * What Prometheus is told of TLS: handshakes, refusals, when the certificates end, and whether something is wrong with
 * them.
 */
import { Counter, Gauge, type Registry } from 'prom-client';
import type { Tls } from './tls.ts';

export function registerTlsMetrics(registry: Registry, tls: Tls): void {
  const registers = [registry];
  new Counter({
    ...{ name: 'bulla_tls_handshakes_total', help: 'Handshakes by version and cipher.', registers },
    labelNames: ['version', 'cipher'],
    collect() {
      this.reset();
      for (const { count, ...labels } of tls.handshakes.done()) this.inc(labels, count);
    },
  });
  new Counter({
    ...{ name: 'bulla_tls_refusals_total', help: 'Handshakes that failed, by why.', registers },
    labelNames: ['reason'],
    collect() {
      this.reset();
      for (const { count, reason } of tls.handshakes.refused()) this.inc({ reason }, count);
    },
  });
  new Gauge({
    ...{ name: 'bulla_tls_certificate_expiry_timestamp_seconds', help: 'When the served certificate ends.', registers },
    labelNames: ['key'],
    // Of workers, while one of them serves an older one.
    aggregator: 'min',
    collect() {
      this.reset();
      for (const { key, notAfter } of tls.status().certificates) this.set({ key }, notAfter.getTime() / 1000);
    },
  });
  new Gauge({
    ...{ name: 'bulla_tls_alarms', help: 'What is wrong with the certificate, or soon will be.', registers },
    aggregator: 'max',
    collect() {
      const { alarms, faults } = tls.status();
      this.set(alarms.length + faults.length);
    },
  });
}
