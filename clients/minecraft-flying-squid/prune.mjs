// Throws away what the server never reads of the modules beside it: the data of Minecraft's other edition, which
// is two thirds of them.
import { readdirSync, rmSync } from "node:fs";
import { join } from "node:path";

const bedrock = "node_modules/minecraft-data/minecraft-data/data/bedrock";
for (const version of readdirSync(bedrock)) {
  if (version !== "common") rmSync(join(bedrock, version), { recursive: true });
}
