import { integer, pgTable, text, timestamp, uuid } from "drizzle-orm/pg-core";

// The app's own table, and nothing of Taxiway's: what `drizzle-kit push` makes the database look like.
export const videos = pgTable("videos", {
  id: uuid("id").primaryKey().defaultRandom(),
  userId: integer("user_id"),
  prompt: text("prompt").notNull(),
  imageUrl: text("image_url"),
  status: text("status").notNull().default("queued"),
  runwayVideoId: text("runway_video_id"),
  videoUrl: text("video_url"),
  errorMessage: text("error_message"),
  createdAt: timestamp("created_at", { withTimezone: true }).defaultNow(),
});
