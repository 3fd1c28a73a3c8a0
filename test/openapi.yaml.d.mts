/** The types of openapi.yaml.mjs, which Node runs as it is. */
export const OPENAPI_FILE: string;
export function openapiYaml(): string;
