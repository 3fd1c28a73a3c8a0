/** The operations of the app's own OpenAPI document, with as much of their types as tests look at. */
import { openapiDocument } from '../src/http/openapi.ts';

export type Media = { schema?: object; example?: unknown; examples?: Record<string, { $ref?: string }> };

export type DocumentedParameter = {
  name: string;
  in: string;
  required?: boolean;
  example?: unknown;
  schema: { example?: unknown; default?: unknown };
};

export type DocumentedOperation = {
  operationId: string;
  summary: string;
  tags: string[];
  security?: object[];
  parameters?: DocumentedParameter[];
  requestBody?: { required?: boolean; content: Record<string, Media> };
  responses: Record<string, { description: string; content?: Record<string, Media> }>;
};

export type Documented = { method: string; path: string; operation: DocumentedOperation };

/** In the order of the document; `method` as it is written there, in small letters. */
export function documentedOperations(document = openapiDocument()): Documented[] {
  return Object.entries(document.paths ?? {}).flatMap(([path, methods]) =>
    Object.entries(methods as Record<string, DocumentedOperation>).map(([method, operation]) => {
      return { method, path, operation };
    }),
  );
}
