"""What plugins have in common that use a SQL database. A plugin of a third party can use it, too.

`DatabaseUrl` is the URL in the config, without a password; `DatabaseFailed` is an error of the database, without
customers' data. `quieten` keeps the drivers from logging such data.
"""

from gateway_databases.database_url import DatabaseUrl, file_of, forbidden_file
from gateway_databases.failures import DatabaseFailed, outdated, quieten

__all__ = ["DatabaseFailed", "DatabaseUrl", "file_of", "forbidden_file", "outdated", "quieten"]
