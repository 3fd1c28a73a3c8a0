# The vault without its embedded PostgreSQL: a database is given by BULLA_DATABASE_URL.
FROM node:24-bookworm-slim AS build
WORKDIR /bulla
COPY package.json package-lock.json tsconfig.json rolldown.config.js ./
COPY src src
COPY sql sql
RUN npm ci --ignore-scripts && npm run build && npm prune --omit=dev --omit=optional --ignore-scripts

FROM node:24-bookworm-slim
RUN mkdir /var/lib/bulla && chown node:node /var/lib/bulla
WORKDIR /bulla
COPY --from=build /bulla/package.json ./
COPY --from=build /bulla/node_modules node_modules
COPY --from=build /bulla/dist dist
COPY --from=build /bulla/sql sql
COPY openapi.yaml ./
USER node
ENV NODE_ENV=production BULLA_DATA_DIR=/var/lib/bulla
EXPOSE 8200
ENTRYPOINT ["node", "--max-semi-space-size=16", "--initial-old-space-size=64", "--heap-growing-percent=150", "--no-allocation-site-pretenuring", "--v8-pool-size=1", "dist/bundle/main.js"]
CMD ["server"]
