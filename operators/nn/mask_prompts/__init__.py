"""Knowledge-based prompts: telling a 3D mask from a face by what is known of both."""
