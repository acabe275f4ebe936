package strongroom.spark;

import java.nio.charset.StandardCharsets;
import java.security.MessageDigest;
import java.security.NoSuchAlgorithmException;
import java.util.Arrays;
import java.util.HashMap;
import java.util.HexFormat;
import java.util.Map;
import java.util.Set;
import java.util.regex.Pattern;
import org.apache.hadoop.conf.Configuration;
import org.apache.hadoop.fs.Path;
import org.apache.parquet.crypto.DecryptionKeyRetriever;
import org.apache.parquet.crypto.FileDecryptionProperties;
import org.apache.parquet.crypto.FileEncryptionProperties;
import org.apache.parquet.crypto.ParquetCipher;
import org.apache.parquet.crypto.ParquetCryptoRuntimeException;
import org.apache.parquet.crypto.keytools.KeyToolkit;
import org.apache.parquet.crypto.keytools.PropertiesDrivenCryptoFactory;
import org.apache.parquet.hadoop.api.WriteSupport.WriteContext;

/**
 * The standard factory without its holes: no plaintext in, none out, AES_GCM_V1 only, and only files that are expected.
 *
 * <p>A file of a table is expected when its footer's key metadata is the one that the table's manifest names: a data
 * key belongs to one file alone, so this names the file. Other files carry the session's own name for them and their
 * path as AAD prefix, so that the storage can't exchange them for others.
 */
public final class StrictCryptoFactory extends PropertiesDrivenCryptoFactory {
    /** AAD prefix of the files of a table that is written. */
    static final String TABLE = "strongroom.table";

    /** Files that may be read, a line each: path, then the SHA-256 of every key metadata in it, in hexadecimal. */
    static final String FILES = "strongroom.files";

    /** What the AAD prefix of files without a table starts with. */
    static final String SCRATCH = "strongroom.scratch";

    // Files are written here first, and moved to their place when the job commits.
    private static final Pattern STAGING = Pattern.compile("(/_temporary/[^/]+|/\\.spark-staging-[^/]+)+(?=/)");

    private record Parsed(String text, Map<String, Set<String>> files) {}

    private static volatile Parsed recent = new Parsed("", Map.of());

    @Override
    public FileEncryptionProperties getFileEncryptionProperties(
            Configuration configuration, Path path, WriteContext context) {
        Configuration strict = new Configuration(configuration);
        strict.set(ENCRYPTION_ALGORITHM_PROPERTY_NAME, ParquetCipher.AES_GCM_V1.name());
        strict.setBoolean(PLAINTEXT_FOOTER_PROPERTY_NAME, false);
        strict.setBoolean(KeyToolkit.DOUBLE_WRAPPING_PROPERTY_NAME, true);
        strict.setBoolean(KeyToolkit.KEY_MATERIAL_INTERNAL_PROPERTY_NAME, true);
        boolean columnKeys = strict.get(COLUMN_KEYS_PROPERTY_NAME) != null;
        strict.setBoolean(COMPLETE_COLUMN_ENCRYPTION_PROPERTY_NAME, columnKeys);
        if (columnKeys) {
            strict.unset(UNIFORM_KEY_PROPERTY_NAME); // the session's key, for files that name none
        }
        FileEncryptionProperties stock = super.getFileEncryptionProperties(strict, path, context);
        if (stock == null) {
            throw new ParquetCryptoRuntimeException(
                    "no key is named for " + path + ", and nothing is written in the clear");
        }
        FileEncryptionProperties.Builder bound = FileEncryptionProperties.builder(stock.getFooterKey())
                .withFooterKeyMetadata(stock.getFooterKeyMetadata())
                .withAlgorithm(ParquetCipher.AES_GCM_V1)
                .withAADPrefix(prefix(strict, path));
        if (stock.getEncryptedColumns() != null && !stock.getEncryptedColumns().isEmpty()) {
            bound.withEncryptedColumns(stock.getEncryptedColumns()).withCompleteColumnEncryption();
        }
        return bound.build();
    }

    @Override
    public FileDecryptionProperties getFileDecryptionProperties(Configuration configuration, Path path) {
        DecryptionKeyRetriever stock =
                super.getFileDecryptionProperties(configuration, path).getKeyRetriever();
        Set<String> expected = files(configuration).get(place(path));
        if (expected != null) {
            return FileDecryptionProperties.builder()
                    .withKeyRetriever(metadata -> {
                        if (!expected.contains(digest(metadata))) {
                            throw new ParquetCryptoRuntimeException(path + " is not the file that the manifest names");
                        }
                        return stock.getKey(metadata);
                    })
                    .build();
        }
        byte[] own = scratch(configuration, place(path));
        return FileDecryptionProperties.builder()
                .withKeyRetriever(stock)
                .withAADPrefixVerifier(prefix -> {
                    if (!Arrays.equals(prefix, own)) {
                        throw new ParquetCryptoRuntimeException(path + " was written elsewhere or under another name");
                    }
                })
                .build();
    }

    private static byte[] prefix(Configuration configuration, Path path) {
        String table = configuration.getRaw(TABLE);
        if (table != null) {
            return table.getBytes(StandardCharsets.UTF_8);
        }
        return scratch(configuration, STAGING.matcher(place(path)).replaceAll(""));
    }

    private static byte[] scratch(Configuration configuration, String place) {
        String name = configuration.getRaw(SCRATCH);
        if (name == null) {
            throw new ParquetCryptoRuntimeException("no manifest names " + place);
        }
        return (name + ":" + place).getBytes(StandardCharsets.UTF_8);
    }

    private static String place(Path path) {
        return path.toUri().getPath();
    }

    private static Map<String, Set<String>> files(Configuration configuration) {
        String raw = configuration.getRaw(FILES); // not `get`, which would replace ${...} in a path
        String text = raw == null ? "" : raw;
        Parsed parsed = recent;
        if (!parsed.text().equals(text)) {
            parsed = new Parsed(text, parse(text));
            recent = parsed;
        }
        return parsed.files();
    }

    private static Map<String, Set<String>> parse(String text) {
        Map<String, Set<String>> files = new HashMap<>();
        for (String line : text.split("\n")) {
            String[] parts = line.split("\t");
            files.put(parts[0], Set.copyOf(Arrays.asList(parts).subList(1, parts.length)));
        }
        return files;
    }

    private static String digest(byte[] metadata) {
        try {
            return HexFormat.of().formatHex(MessageDigest.getInstance("SHA-256").digest(metadata));
        } catch (NoSuchAlgorithmException error) {
            throw new IllegalStateException(error);
        }
    }
}
