// For `import`: the same classes as `require` gives.

import client from './index.cjs';

export const { Client, InferenceError } = client;
